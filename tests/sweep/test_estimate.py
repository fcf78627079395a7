"""`peftbench estimate` from the command line: its figures, and what it refuses in one line."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from peftbench import cli
from peftbench.errors import ConfigError
from peftbench.sweep import budget, estimate, forecast
from peftbench.sweep.cells import plan


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["estimate", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_cells_as_json_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "new" / "bars.svg"
    words = ["model=tiny_bert", "method=lora,full,zero_shot", "length=32", "recipe.batch_size=8", "memory=8GB"]
    assert cli.main(["estimate", *words, "format=json", f"picture={picture}"]) == 0
    cells = {cell["method"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
    for name in ("lora", "full"):
        assert cells[name]["peak_bytes"] == sum(cells[name]["parts"].values())
        assert cells[name]["largest_micro_batch"] == 8
        assert cells[name]["time_s"]["value"] > 0
    assert cells["full"]["parts"]["optimizer"] > 20 * cells["lora"]["parts"]["optimizer"]
    assert cells["lora"]["params"]["trainable"] == 4226
    assert "trains nothing" in cells["zero_shot"]["refused"]
    titles = [e.text or "" for e in ElementTree.parse(picture).iter() if e.tag.endswith("title")]
    assert len(titles) == 12


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_file_of_ones_own_without_metrics_or_labels(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.csv"
    file.write_text("text,label\n" + "a walk,1\nno walk,0\n" * 20)
    words = ["dataset=csv", f"dataset.file={file}", "dataset.text=text", "dataset.label=label", f"dataset.task={task}"]
    assert cli.main(["estimate", "model=tiny_bert", "method=lora", *words, "format=json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"][0]["peak_bytes"] > 0


def test_a_budget_without_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    assert "with a unit" in refusal(capsys, "memory=8")


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such model" in refusal(capsys, "model=bert_bse")


@pytest.mark.parametrize(
    "word", ["format=xml", "fit=perhaps", "fit=true", "length=none", "picture=a.png", "lora", "-x"]
)
def test_words_that_are_not_allowed(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert word.partition("=")[0].lstrip("-") in refusal(capsys, word)


def test_a_method_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["estimate", "method=unipelt", "model=tiny_llama"]) == 1
    assert "can't be estimated: method=unipelt on model=tiny_llama: supports encoder" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("written", "size"), [("8GB", 8 * 10**9), ("8 GiB", 8 * 2**30), ("7.5gb", 7_500_000_000), ("500MB", 500_000_000)]
)
def test_budgets(written: str, size: int) -> None:
    assert budget.bytes_of("memory", written) == size


@pytest.mark.parametrize("written", ["8", "GB", "-1GB", "0GB", "8 apples", "8GB or so", ""])
def test_budgets_that_are_none(written: str) -> None:
    with pytest.raises(ConfigError, match="memory="):
        budget.bytes_of("memory", written)


def test_the_largest_micro_batch_by_two() -> None:
    peaks = {8: 100 + 8 * 10.0, 32: 100 + 32 * 10.0}
    assert budget.largest(peaks, 260, 32) == 16
    assert budget.largest(peaks, 1000, 32) == 32
    assert budget.largest(peaks, 110, 32) == 1
    assert budget.largest(peaks, 109, 32) is None


def test_own_words_are_taken_out() -> None:
    options, rest = estimate.take(["model=tiny_bert", "memory=1GB", "length=64"])
    assert rest == ["model=tiny_bert"]
    assert (options.memory, options.length) == (10**9, 64)


def words(tmp_path: Path, *rest: str) -> list[str]:
    return ["model=tiny_bert", f"results_dir={tmp_path}", "recipe.max_steps=2", "recipe.train_samples=64", *rest]


def test_a_sweep_leaves_out_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = words(tmp_path, "method=lora,full", "memory=1MB", "-m", "dry_run=true")
    assert cli.main(asked) == 2
    assert "no run of this command line fits" in capsys.readouterr().err
    assert cli.main(words(tmp_path, "method=lora", "memory=8GB", "-m", "dry_run=true")) == 0
    assert "1 to do" in capsys.readouterr().out


def test_fit_takes_smaller_micro_batches_and_keeps_the_global_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = words(tmp_path, "method=lora", "memory=30MB", "measure=false", "dataset=demo")
    monkeypatch.setattr(forecast, "_CALIBRATION", tmp_path / "none.json")
    assert cli.main([*asked, "-m"]) == 2
    assert "fit=true takes" in capsys.readouterr().err
    assert cli.main([*asked, "fit=true"]) == 0
    [file] = (tmp_path / "records").rglob("*.json")
    record = json.loads(file.read_text())
    assert record["config"]["recipe"]["batch_size"] == 32
    assert 1 <= record["efficiency"]["micro_batch_size"] < 32


def test_a_process_by_the_factors_of_its_terms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"weights_frozen": 100, "weights_trained": 10, "gradients": 10, "optimizer": 20, "activations": 50}
    cell = {"parts": {**parts, "temporary": 10}, "params": {"total": 200}}
    factors = dict(zip(forecast.terms(200, cell, False), (1000.0, 0.5, 1.0, 2.0), strict=True))
    fitted = {"factors": factors, "low": 0.5, "high": 2.0, "largest_bytes": 2000}
    monkeypatch.setattr(forecast, "_CALIBRATION", tmp_path / "fit.json")
    config, packed = (plan(["model=tiny_bert", f"method={m}"], multirun=False).cells[0] for m in ("lora", "qlora"))
    assert forecast.process(200, cell, config) is None
    (tmp_path / "fit.json").write_text(json.dumps({**fitted, "cases": 3}))
    told = forecast.process(200, cell, config)
    assert told == forecast.Forecast(1000 + 50 + 40 + 120, 605, 2420, "3 measured runs")
    whole = forecast.process(200, cell, packed)
    assert whole is not None
    assert told is not None
    assert whole.value == told.value + 0.5 * (4 * 200 - 100)
    large = {**cell, "parts": {**cell["parts"], "weights_frozen": 100_000}}
    beyond = forecast.process(100_100, large, config)
    assert beyond is not None
    assert beyond.value == 100_100, "no fewer bytes than its tensors"
    assert beyond.basis == "3 measured runs of up to 0.0 GB: beyond these"


def test_fit_without_a_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words(tmp_path, "fit=true")) == 2
    assert "needs a budget" in capsys.readouterr().err
