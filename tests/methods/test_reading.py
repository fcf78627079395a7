"""Soft prompts in words: the nearest tokens of the vocabulary, in the record and in the report."""

import math

import pytest
import torch
from peft import PromptLearningConfig

from peftbench.methods.build import build
from peftbench.methods.hub import Hub
from peftbench.methods.nearest_tokens import nearest_tokens
from peftbench.methods.tuners.classification import NO_POSITIONS
from peftbench.results.report import render_markdown
from tests.helpers.boards import board, made
from tests.helpers.built import Built
from tests.helpers.composed import adapter_classes

PROMPTS = [name for name, kind in adapter_classes(Hub).items() if issubclass(kind, PromptLearningConfig)]


class Letters:
    def convert_ids_to_tokens(self, index: int) -> str | None:
        return "abc"[index] if index < 3 else None


def test_the_nearest_are_those_of_the_largest_cosine() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 5.0], [3.0, 3.0], [-1.0, 0.1]])
    (first, second) = nearest_tokens(torch.tensor([[2.0, 0.0], [0.0, -1.0]]), embeddings, Letters())
    assert [near["token"] for near in first] == ["a", "c", "b", "None"]
    assert [near["similarity"] for near in first] == pytest.approx([1, math.sqrt(0.5), 0, -0.995], abs=1e-3)
    assert [near["token"] for near in second] == ["a", "None", "c", "b"]


def test_a_virtual_token_that_is_a_words_embedding_is_read_as_that_word(cell) -> None:
    case = Built(cell("method=prompt_text"))
    found = case.method.describe(case.model, case.data.tokenizer)["soft_prompt"]
    text = case.config.method.args["text"].replace("{labels}", "negative, positive")
    expected = case.data.tokenizer.tokenize(text)[: len(found)]
    assert [nearest[0]["token"] for nearest in found][: len(expected)] == expected
    assert all(nearest[0]["similarity"] == pytest.approx(1, abs=1e-4) for nearest in found)
    assert all(len(nearest) == 5 for nearest in found)


def test_the_methods_are_there() -> None:
    assert {"prompt", "prompt_text", "prompt_vocab", "p_tuning", "multitask_prompt"} <= set(PROMPTS)


@pytest.mark.parametrize("method", PROMPTS)
def test_every_method_with_a_soft_prompt_reads_it(cell, method: str) -> None:
    case = None
    for model in ("tiny_bert", "tiny_llama"):
        found = cell(f"method={method}", f"model={model}")
        if build(found.config.method).refusal(found.config) is None:
            case = Built(found)
            break
    assert case is not None
    described = case.method.describe(case.model, case.data.tokenizer)
    if case.model.active_peft_config.peft_type in NO_POSITIONS:  # Keys and values: no words.
        assert described == {}
        return
    described, prompt = described["soft_prompt"], case.model.active_peft_config.num_virtual_tokens
    assert len(described) == prompt
    # Independently: the vectors that the model is really given, before the input's own.
    seen: list[torch.Tensor] = []
    first = case.model.base_model.get_input_embeddings()
    handle = case.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    case.logits()
    handle.remove()
    vectors = seen[0][0, :prompt]
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], first.weight[None], dim=2)
    for nearest, row in zip(described, cosines, strict=True):
        assert [near["similarity"] for near in nearest] == pytest.approx(
            row.sort(descending=True)[0][:5].tolist(), abs=1e-3
        )


def test_prompt_tokens_at_several_places_are_read_too(cell) -> None:
    case = Built(cell("method=p_tuning_template"))
    described = case.method.describe(case.model, case.data.tokenizer)["soft_prompt"]
    embeddings = case.model.get_base_model().get_input_embeddings()
    vectors = embeddings.prompt("default")
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None], embeddings.base_layer.weight[None], dim=2)
    assert len(described) == case.config.method.adapter["num_virtual_tokens"]
    for nearest, row in zip(described, cosines, strict=True):
        best = case.data.tokenizer.convert_ids_to_tokens(int(row.argmax()))
        assert (nearest[0]["token"], nearest[0]["similarity"]) == (best, pytest.approx(row.max().item(), abs=1e-3))


def test_others_have_nothing_to_say(cell) -> None:
    for method in ("lora", "prefix", "full", "p_tuning_v2"):
        case = Built(cell(f"method={method}"))
        assert case.method.describe(case.model, case.data.tokenizer) == {}


def test_a_record_keeps_it(train) -> None:
    record = train("method=prompt", "recipe.max_steps=2")
    assert len(record.learnt["soft_prompt"]) == 20
    assert train("method=lora", "recipe.max_steps=2").learnt == {}


def prompt(*words: str) -> dict:
    return {"learnt": {"soft_prompt": [[{"token": word, "similarity": 0.5}] for word in words]}}


def test_the_report_shows_the_first_seeds() -> None:
    records = [
        made(0.8, "method=prompt", "dataset=sst2", "seed=1", **prompt("later")),
        made(0.7, "method=prompt", "dataset=sst2", "seed=0", **prompt("film", "a`b", "|")),
        made(0.7, "method=lora", "dataset=sst2", "seed=0"),
    ]
    text = render_markdown.render(board(*records))
    assert "## Soft prompts" in text
    assert "<details><summary>prompt · tiny_bert · sst2</summary>" in text
    assert "\n1\u00a0`film`\u00a00.50, 2\u00a0`` a`b ``\u00a00.50, 3\u00a0`|`\u00a00.50\n" in text
    assert "later" not in text
    assert "Soft prompts" not in render_markdown.render(board(records[2]))
