"""What `export` writes of language models answers as the run did, in plain transformers and peft: texts that `generate`
writes, and the scores of label words."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
)

from tests.helpers.composed import written
from tests.helpers.exported import FAMILIES, NOT_MERGED, OWN, Exporter, loaded

DATA = written("dataset")["sst2"]
CLASSES = {"tiny_t5": AutoModelForSeq2SeqLM, "tiny_llama": AutoModelForCausalLM}
#: So that no question is cut: a byte is a token here.
WHOLE = "recipe.max_length=200"
#: A family, and whether it is merged. Baselines that train, a probe, have a head.
WAYS = [
    pytest.param(family, merged, id=f"{family}-{'merged' if merged else 'apart'}")
    for family in FAMILIES
    for merged in (False, True)
    if family != "baseline" and not (family in NOT_MERGED if merged else family in OWN)
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def exporter(models: Path, data_root: Path, tmp_path: Path) -> Exporter:
    return Exporter(models, data_root, tmp_path)


def questions(exporter: Exporter, rows: Any) -> list[str]:
    """The template up to the answer."""
    texts, before = exporter.texts(), DATA["template"].partition("{answer}")[0]
    assert len(rows) == len(texts)
    return [before.format(sentence=texts[row]).rstrip() for row in rows["row"]]


def answers(model: Any, tokenizer: Any, settings: GenerationConfig, lines: list[str]) -> list[str]:
    """Texts written one by one: a decoder's behind the question, of which it is given no end."""
    texts = []
    for line in lines:
        ids = tokenizer(line, return_tensors="pt")["input_ids"]
        start = 1
        if not model.config.is_encoder_decoder:
            ids = ids[:, :-1] if ids[0, -1] == settings.eos_token_id else ids
            start = ids.shape[1]
        written_ids = model.generate(input_ids=ids, generation_config=settings)[0]
        texts.append(tokenizer.decode(written_ids[start:], skip_special_tokens=True).strip())
    return texts


@pytest.mark.parametrize(("family", "merged"), WAYS)
@pytest.mark.parametrize("tiny", CLASSES)
@pytest.mark.slow
def test_written_answers_are_those_of_the_run(exporter: Exporter, tiny: str, family: str, merged: bool) -> None:
    method, folder, rows = exporter.first(family, tiny, WHOLE, formulation="text", merged=merged)
    model = loaded(folder, exporter.base(tiny, "text"), CLASSES[tiny])
    tokenizer, settings = AutoTokenizer.from_pretrained(folder), GenerationConfig.from_pretrained(folder)
    assert settings.max_new_tokens > max(map(len, DATA["verbaliser"])), "a byte is a token, and the end is one"
    assert answers(model, tokenizer, settings, questions(exporter, rows)) == list(rows["answer"]), method
    assert len(set(rows["answer"])) > 1, "a model that always writes the same shows nothing"


@pytest.mark.parametrize(("family", "merged"), WAYS)
@pytest.mark.slow
def test_label_words_have_the_scores_of_the_run(exporter: Exporter, family: str, merged: bool) -> None:
    method, folder, rows = exporter.first(family, "tiny_llama", WHOLE, formulation="verbaliser", merged=merged)
    model = loaded(folder, exporter.base("tiny_llama", "verbaliser"), AutoModelForCausalLM)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Both begin with a byte for their space.
    space, *_ = tokenizer(" ", add_special_tokens=False)["input_ids"]
    words = [tokenizer(f" {word}", add_special_tokens=False)["input_ids"][1] for word in DATA["verbaliser"]]
    scores = []
    with torch.inference_mode():
        for line in questions(exporter, rows):
            ids = tokenizer(line)["input_ids"]
            ids = ids[:-1] if ids[-1] == tokenizer.sep_token_id else ids
            logits = model(input_ids=torch.tensor([[*ids, space]])).logits
            scores.append(logits[0, -1, words].numpy())
    assert np.allclose(scores, np.stack(rows["scores"]), atol=1e-4), method
    card = (folder / "README.md").read_text()
    assert f'asked as: `"{DATA["template"]}"`' in card
    assert all(repr(word) in card for word in DATA["verbaliser"])
