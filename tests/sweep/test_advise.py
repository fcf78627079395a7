"""`peftbench advise` on records whose scores are known."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from peftbench import cli
from peftbench.config import paths
from peftbench.results.records import RunRecord, decode
from peftbench.results.report import load, stats
from peftbench.sweep import advice
from peftbench.sweep.cells import plan

PUBLISHED = Path(__file__).parents[2] / "results" / "published" / "glue_quick" / "records" / "rte"


def record(
    folder: Path,
    method: str,
    seed: int,
    score: float,
    *,
    dataset: str = "rte",
    model: str = "tiny_bert",
    changed: Sequence[str] = (),
    train_samples: int = 1500,
) -> None:
    """A published record's copy with another model, seed and score."""
    file = next((PUBLISHED / "minilm" / method).glob("*.json"))
    made: RunRecord = decode(file.read_bytes())
    config = json.loads(json.dumps(made.config))
    config["model"]["name"], config["dataset"]["name"], config["seed"] = model, dataset, seed
    config["recipe"]["train_samples"] = train_samples
    made = dataclasses.replace(
        made, key=f"{abs(hash((method, seed, dataset, model, train_samples))):020x}"[:20], config=config, score=score,
        changed=list(changed),
    )  # fmt: skip
    target = folder / "records" / dataset / model / method / f"{made.key}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(made.to_dict()))


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "published", lambda: None)
    return tmp_path


def asked(folder: Path, *words: str) -> list[str]:
    return ["advise", "dataset=rte", "model=tiny_bert", f"results_dir={folder}", *words]


def test_the_tie_with_the_least_memory_is_recommended(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        record(alone, "full", seed, 0.80 + 0.01 * seed)
        record(alone, "lora", seed, 0.801 + 0.01 * seed)
        record(alone, "bitfit", seed, 0.50 + 0.01 * seed)
    assert cli.main(asked(alone)) == 0
    out = capsys.readouterr().out
    assert out.count("\n=  ") == 2
    assert "Recommended: lora (of 2 that can't be told" in out
    assert "method=lora,full seed=0,1,2,3,4 -m" in out


def test_methods_as_their_files_have_them_come_before_more_rows_of_set_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published, own = tmp_path / "published", tmp_path / "own"
    monkeypatch.setattr(paths, "published", lambda: published)
    own.mkdir()
    for seed in range(3):
        for method in ("full", "lora"):
            record(published / "plain", method, seed, 0.70 + 0.01 * seed)
        for method in ("full", "lora", "bitfit"):
            sized = ["method.lr=0.123"]
            record(published / "sized", method, seed, 0.90 + 0.01 * seed, changed=sized, train_samples=777)
    assert cli.main(asked(own)) == 0
    told = capsys.readouterr().out
    assert 0 < told.index("train_samples 1500") < told.index("train_samples 777")
    for file in (published / "plain").rglob("*.json"):
        file.unlink()
    record(published / "plain", "full", 0, 0.70)
    assert cli.main(asked(own)) == 0
    told = capsys.readouterr().out
    assert 0 < told.index("train_samples 777") < told.index("train_samples 1500"), "one seed is less than that"


@pytest.mark.parametrize("where", ["published", "own"])
def test_runs_that_test_a_saying_are_no_comparison_of_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    published, own = tmp_path / "published", tmp_path / "own"
    folder = published / "findings" if where == "published" else own
    monkeypatch.setattr(paths, "published", lambda: published)
    own.mkdir()
    for seed in range(3):
        for method in ("full", "lora"):
            record(published / "study", method, seed, 0.80 + 0.01 * seed)
        for method in ("full", "lora", "bitfit", "houlsby"):
            record(folder, method, seed, 0.90 + 0.01 * seed)
    assert cli.main(asked(own)) == 0
    assert "\n   houlsby " in capsys.readouterr().out.replace("=", " ")  # Else the next line would pass on anything.
    keys = [file.stem for file in (folder / "records").rglob("*.json")]
    (folder / "findings").mkdir()
    (folder / "findings" / "rate.json").write_text(json.dumps({"finding": {}, "keys": keys, "runs": len(keys)}))
    assert cli.main(asked(own)) == 0
    told = capsys.readouterr().out.replace("=", " ")
    assert "\n   houlsby " not in told
    assert "\n   lora " in told


def test_records_of_ones_own_file_are_evidence_for_it(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records have the file's name, where the command line says `csv`."""
    for seed in range(3):
        record(alone, "full", seed, 0.80 + 0.01 * seed, dataset="tickets")
        record(alone, "lora", seed, 0.90 + 0.01 * seed, dataset="tickets")
        record(alone, "bitfit", seed, 0.95 + 0.01 * seed, dataset="others")
    (alone / "tickets.csv").write_text("message,team\na,x\nb,y\n")
    words = [f"dataset.file={alone / 'tickets.csv'}", "dataset.text=message", "dataset.label=team"]
    metrics = "dataset.metrics=f1_macro"
    assert cli.main(["advise", "dataset=csv", "model=tiny_bert", f"results_dir={alone}", metrics, *words]) == 0
    out = capsys.readouterr().out
    assert "Which method for dataset=tickets on model=tiny_bert?" in out
    assert "Recommended: lora" in out


def test_what_is_too_large_is_left_out(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        record(alone, "full", seed, 0.90 + 0.001 * seed)
        record(alone, "lora", seed, 0.80 + 0.001 * seed)
    assert cli.main(asked(alone, "parameters=50k")) == 0
    out = capsys.readouterr().out
    assert "left out: trains 121,090" in out
    assert "Recommended: lora (nothing else is left" in out


def test_its_intervals_are_a_reports_and_it_keeps_to_eighty_columns(
    alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo study has predictions: its interval is of other examples too, not of other seeds alone."""
    study = PUBLISHED.parents[2] / "demo"
    assert cli.main(["advise", "dataset=demo", f"results_dir={study}"]) == 0
    told = capsys.readouterr().out
    assert all(len(line) <= 80 or line.startswith("  python -m") for line in told.splitlines())
    [sure] = stats.leaderboard(load.load(study)).evidence.cells.values()
    assert sure.interval is not None
    assert sure.same_examples is not None
    assert f"{100 * sure.interval.low:.1f}-{100 * sure.interval.high:.1f}" in told
    assert f"{100 * sure.same_examples.low:.1f}-{100 * sure.same_examples.high:.1f}" not in told


def test_what_was_set_of_the_recommended_method_is_in_its_line(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        record(alone, "full", seed, 0.50 + 0.01 * seed)
        record(
            alone, "lora", seed, 0.90 + 0.01 * seed, changed=["method.lr=0.004", "method.adapter.target_modules=[a, b]"]
        )
    assert cli.main(asked(alone)) == 0
    out = capsys.readouterr().out
    assert " method=lora method.lr=0.004 'method.adapter.target_modules=[a, b]'\n" in out


def test_no_evidence(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(asked(alone)) == 1
    out = capsys.readouterr().out
    assert "No evidence" in out
    assert "Printed, not re-run" in out


def test_evidence_by_distance(alone: Path) -> None:
    record(alone, "lora", 0, 0.5, dataset="qnli")
    record(alone, "lora", 0, 0.6, model="minilm")
    [config] = plan(asked(alone)[1:], multirun=False).cells
    assert [panel.distance for panel in advice.panels(config)] == [1, 2]
    assert [panel.distance for panel in advice.panels(config, without="qnli")] == [1]
    record(alone, "lora", 0, 0.7)
    assert [panel.distance for panel in advice.panels(config)] == [0, 1, 2]


def test_what_was_tested_stands_before_many_with_one_seed(alone: Path) -> None:
    for method, seed in (("lora", 0), ("lora", 1), ("full", 0), ("full", 1)):
        record(alone, method, seed, 0.6, dataset="qnli")
    for method in ("lora", "full", "bitfit"):
        record(alone, method, 0, 0.9, dataset="mrpc")
    [config] = plan(asked(alone)[1:], multirun=False).cells
    assert [panel.dataset for panel in advice.panels(config)] == ["qnli", "mrpc"]


def test_one_seed_is_not_tested(alone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(alone, "lora", 0, 0.7)
    record(alone, "bitfit", 0, 0.6)
    assert cli.main(asked(alone)) == 0
    assert "one seed each, so nothing was tested" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["model=tiny_bert"],
        ["dataset=rte", "memory=4"],
        ["dataset=rte", "parameters=many"],
        ["dataset=rte", "latency=20"],
        ["dataset=rte", "method=lora"],
        ["dataset=rte,cola"],
        ["dataset=rte", "model=none_such"],
        ["dataset=rte", "lora"],
    ],
)
def test_bad_input_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
