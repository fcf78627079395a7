"""SmolLM2's real weights, exported: folders that answer as the run did, in plain transformers and peft.

`peftbench convert model=smollm2_135m model_root=DIR` makes the weights; PEFTBENCH_MODEL_ROOT names that folder.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from tests.helpers.composed import written
from tests.helpers.exported import Exporter, loaded, questions, train, word_scores, write, written_answers

pytestmark = pytest.mark.slow

DATA = written("dataset")["sst2"]
NAME = Path(written("model")["smollm2_135m"]["checkpoint"]).name
SHORT = ["recipe.max_steps=3", "recipe.batch_size=4", "recipe.max_length=64"]


@pytest.fixture(scope="module")
def model_root() -> Path:
    root = os.environ.get("PEFTBENCH_MODEL_ROOT")
    if root is None:
        pytest.skip("PEFTBENCH_MODEL_ROOT isn't set: no real weights")
    if not (Path(root) / NAME).exists():
        pytest.skip(f"PEFTBENCH_MODEL_ROOT={root}: there is no {NAME}")
    return Path(root)


@pytest.mark.parametrize("formulation", ["verbaliser", "text"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_what_is_exported_answers_as_the_run_did(
    model_root: Path, data_root: Path, tmp_path: Path, method: str, formulation: str
) -> None:
    words = ["model=smollm2_135m", f"model_root={model_root}", "dataset=sst2", f"data_root={data_root}"]
    file, rows = train(tmp_path / "results", *words, f"formulation={formulation}", f"method={method}", *SHORT)
    texts = Exporter(tmp_path, data_root, tmp_path).texts()
    lines = questions(DATA["template"], [texts[row] for row in rows["row"]])
    for merged in (False, True) if method == "lora" else (False,):
        folder = write(file, tmp_path / f"{formulation}-{merged}", model_root=model_root, merged=merged)
        model = loaded(folder, model_root / NAME, AutoModelForCausalLM)
        if formulation == "text":
            assert written_answers(model, folder, lines) == list(rows["answer"])
        else:
            scores = word_scores(model, folder, lines, DATA["verbaliser"])
            assert np.allclose(scores, np.stack(rows["scores"]), atol=1e-3)
            assert scores.argmax(axis=1).tolist() == list(rows["answer"])
