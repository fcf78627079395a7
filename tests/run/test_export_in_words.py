"""What `export` writes of language models answers as the run did, in plain transformers and peft: texts that `generate`
writes, and the scores of label words."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from peftbench.run import export
from tests.helpers.composed import written
from tests.helpers.exported import FAMILIES, NOT_MERGED, OWN, Exporter, loaded, questions, word_scores, written_answers

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


@pytest.mark.parametrize(("family", "merged"), WAYS)
@pytest.mark.parametrize("tiny", CLASSES)
@pytest.mark.slow
def test_written_answers_are_those_of_the_run(exporter: Exporter, tiny: str, family: str, merged: bool) -> None:
    method, folder, rows = exporter.first(family, tiny, WHOLE, formulation="text", merged=merged)
    model = loaded(folder, exporter.base(tiny, "text"), CLASSES[tiny])
    assert written_answers(model, folder, asked(exporter, rows)) == list(rows["answer"]), method
    assert len(set(rows["answer"])) > 1, "a model that always writes the same shows nothing"
    card = (folder / "README.md").read_text()
    assert f'asked as: `"{DATA["template"]}"`; the model writes the answer' in card


@pytest.mark.parametrize(("family", "merged"), WAYS)
@pytest.mark.slow
def test_label_words_have_the_scores_of_the_run(exporter: Exporter, family: str, merged: bool) -> None:
    method, folder, rows = exporter.first(family, "tiny_llama", WHOLE, formulation="verbaliser", merged=merged)
    model = loaded(folder, exporter.base("tiny_llama", "verbaliser"), AutoModelForCausalLM)
    scores = word_scores(model, folder, asked(exporter, rows), DATA["verbaliser"])
    assert np.allclose(scores, np.stack(rows["scores"]), atol=1e-4), method
    card = (folder / "README.md").read_text()
    assert f'asked as: `"{DATA["template"]}"`; the likeliest of the label words' in card
    assert all(repr(word) in card for word in DATA["verbaliser"])


@pytest.mark.parametrize("beams", [1, 3])
def test_settings_of_generate_are_the_runs_on_top_of_the_bases(beams: int, tmp_path: Path) -> None:
    """Of a base made to chat, whose own settings draw: what has no effect then would be refused when it is saved."""
    model = LlamaForCausalLM(LlamaConfig(**written("model")["tiny_llama"]["config"]))
    model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, repetition_penalty=1.1)
    model.generation_config.update(num_beams=4, early_stopping=True, length_penalty=2.0)
    asked_for = {"max_new_tokens": 5, "num_beams": beams, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
    export.generation(model, SimpleNamespace(generation=asked_for)).save_pretrained(tmp_path)
    settings = GenerationConfig.from_pretrained(tmp_path)
    assert {name: getattr(settings, name) for name in asked_for} == asked_for
    assert settings.repetition_penalty == 1.1
    assert settings.temperature is None
    assert settings.length_penalty == (2.0 if beams > 1 else None)
    assert model.generation_config.do_sample


def asked(exporter: Exporter, rows: Any) -> list[str]:
    """The evaluated rows as questions."""
    texts = exporter.texts()
    assert len(rows) == len(texts)
    return questions(DATA["template"], [texts[row] for row in rows["row"]])
