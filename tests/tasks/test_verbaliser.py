"""Label words scored by language models: where they are read, what is cut, and what is refused."""

import pytest
import torch

from peftbench.config import formulations
from peftbench.data.examples import Example
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built
from tests.helpers.composed import composed

MODELS = ["tiny_bert", "tiny_roberta", "tiny_llama", "tiny_gpt2", "tiny_t5", "tiny_bart"]


@pytest.fixture
def built(cell):
    return lambda model, *more: Built(cell("method=full", f"model={model}", "formulation=verbaliser", *more))


@pytest.mark.parametrize("model", MODELS)
def test_label_words_are_scored_at_the_answers_place(built, model: str) -> None:
    """One example, unpadded, its inputs written out by hand."""
    case = built(model)
    tokenizer, task = case.context.tokenizer, case.task
    batch = case.data.train.collate([0])
    with torch.no_grad():
        outputs = case.model.eval()(**task.inputs(batch)).logits[0]
    lead = tokenizer(" ", add_special_tokens=False)["input_ids"]
    good, bad = (tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("great", "terrible"))
    assert task.lead == lead
    assert task.words == [bad, good]
    text = tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)
    assert "It was" in text
    if case.config.model.family == "encoder":
        place = batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)
        assert batch["input_ids"][0, place - 1].item() == lead[0]
    elif case.config.model.family == "decoder":
        place = len(outputs) - 1
        assert batch["input_ids"][0, -1].item() == lead[0]
    else:
        place = len(lead)  # The decoder reads its start token and the lead.
        assert len(outputs) == len(lead) + 1
    assert torch.equal(task.logits(_Output(outputs[None]), batch)[0], outputs[place, [bad, good]])


class _Output:
    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize("model", MODELS)
def test_the_longest_column_is_cut_and_the_template_stays(built, model: str) -> None:
    case = built(model, "recipe.max_length=48")
    long, short = "word " * 60, "tiny"
    data = composed(["dataset=mrpc", f"model={model}", "formulation=verbaliser"])
    task = build_task(data)
    task.prepare(case.context.tokenizer)
    pairs = [Example(0, dict(zip(data.dataset.text, pair, strict=True))) for pair in ((long, short), (short, short))]
    encoded = task.encode(case.context.tokenizer, pairs, 64)
    first, second = encoded.input_ids
    assert encoded.cut == 1
    assert 50 < len(first) <= 64
    assert len(second) < 64
    text = case.context.tokenizer.decode(first)
    assert "tiny The same meaning?" in text
    assert "word word" in text


def test_a_template_that_alone_is_too_long_is_refused(built) -> None:
    with pytest.raises(ConfigError, match="recipe.max_length=8: what isn.t cut alone takes"):
        built("tiny_llama", "recipe.max_length=8")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.template=null", "needs dataset.template and .verbaliser"),
        ("dataset.verbaliser=[good]", "one word for each of"),
        ("dataset.verbaliser=[good,good]", "all different"),
        ("dataset.template='{sentence} so {answer} {answer}'", "exactly once"),
        ("dataset.template='{text} {answer}'", "takes {sentence}, {answer}"),
        ("dataset.template='{sentence {answer}'", "dataset.template"),
    ],
)
def test_a_wrong_template_is_named(override: str, message: str) -> None:
    config = composed(["dataset=sst2", "model=tiny_llama", "formulation=verbaliser", override])
    with pytest.raises(ConfigError) as error:
        build_task(config)
    assert message in str(error.value)


def test_words_that_a_tokenizer_starts_alike_are_refused(built) -> None:
    with pytest.raises(ConfigError, match="starts two words alike"):
        built("tiny_llama", "dataset.verbaliser=[good, goodness]")


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5", "tiny_roberta"])
def test_a_run_by_label_words_is_recorded(train, model: str) -> None:
    record = train("method=lora", f"model={model}", "formulation=verbaliser", "recipe.max_steps=4")
    assert record.status == "completed"
    assert record.params["head"] == 0
    assert record.params["adapter"] == record.params["trainable"]


def test_auto_is_by_family_and_method() -> None:
    def chosen(*overrides: str) -> str:
        return formulations.formulation(composed(list(overrides)))

    assert chosen("model=tiny_bert") == "head"
    assert chosen("model=tiny_llama") == "head"
    assert chosen("model=tiny_t5") == "verbaliser"
    assert chosen("model=tiny_llama", "method=cpt") == "verbaliser"


def test_a_masked_model_without_its_head_is_refused(built, tmp_path) -> None:
    """MiniLM has no pretrained head for words: at random it would spoil every score in silence."""
    from peftbench.models.checkpoints import Checkpoint

    case = built("tiny_bert")
    case.model.bert.save_pretrained(tmp_path / "bare")
    with pytest.raises(ConfigError, match="lacks weights outside model.head"):
        backbones.load_model(case.config, Checkpoint(str(tmp_path / "bare"), ""), case.task)


def test_a_mask_within_a_text_is_text(built) -> None:
    case = built("tiny_bert")
    tokenizer = backbones.load_tokenizer(case.config.model, case.cell.checkpoint)
    (ids,) = case.task.render(tokenizer, [{"sentence": f"a {tokenizer.mask_token} of steel"}])["input_ids"]
    assert ids.count(tokenizer.mask_token_id) == 1
    assert ids.index(tokenizer.mask_token_id) > len(tokenizer("a of steel")["input_ids"]) - 2
