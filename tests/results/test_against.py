"""`report against=`: the same runs before and after."""

from pathlib import Path

import pytest

from peftbench.results.report import against
from peftbench.results.report.load import Results
from tests.helpers.boards import made
from tests.results.test_report_command import Run, _stored


def _results(method: str, *scores: float, **more: object) -> Results:
    return Results([made(score, f"method={method}", f"seed={seed}", **more) for seed, score in enumerate(scores)])


def test_a_score_that_fell_by_more_than_noise() -> None:
    before = _results("lora", 0.9, 0.91, 0.905)
    assert against.compare(before, _results("lora", 0.8, 0.805, 0.81)).fell
    assert not against.compare(before, _results("lora", 0.89, 0.92, 0.9)).fell
    assert not against.compare(before, _results("lora", 0.98, 0.985, 0.99)).fell
    assert not against.compare(before, before).fell
    (perfect,) = against.compare(_of_demo(1.0, 1.0), _of_demo(1.0, 1.0)).changes
    assert perfect.p == 1.0, "nothing differs, which is no question"


def test_of_one_seed_the_examples_tell_the_noise() -> None:
    def one(score: float) -> Results:
        return _results(
            "lora", score, metrics={"validation": {"values": {"accuracy": score}, "score": score, "n": 872}}
        )

    def of_demo(results: Results) -> Results:
        for record in results.completed:
            record.config = {**record.config, "dataset": {**record.config["dataset"], "evaluation": ["validation"]}}
        return results

    assert against.compare(of_demo(one(0.9)), of_demo(one(0.8))).fell
    assert not against.compare(of_demo(one(0.9)), of_demo(one(0.89))).fell
    (change,) = against.compare(_results("lora", 0.9), _results("lora", 0.1)).changes
    assert change.p is None
    assert not change.fell


def _of_demo(*scores: float) -> Results:
    runs = [made(score, "method=lora", "dataset=demo", f"seed={seed}") for seed, score in enumerate(scores)]
    for run in runs:
        (split,) = run.config["dataset"]["evaluation"]
        run.metrics[split] = {"values": {"accuracy": run.score}, "score": run.score, "n": 800}
    return Results(runs)


def test_seeds_that_fell_alike_are_no_certainty() -> None:
    """One example of 800 lost by each of two seeds: their differences don't vary at all."""
    (change,) = against.compare(_of_demo(0.9, 0.8), _of_demo(0.89875, 0.79875)).changes
    assert change.p is not None
    assert change.p > 0.5
    assert change.low is not None
    assert change.low < -0.01
    assert against.compare(_of_demo(0.9, 0.8), _of_demo(0.7, 0.6)).fell
    (unknown,) = against.compare(_results("lora", 0.75, 0.5), _results("lora", 0.5, 0.25)).changes
    assert (unknown.p, unknown.fell) == (None, False), "no examples are known, and the seeds don't vary"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (["recipe.epochs=9"], "recipe.epochs: 3 → 9"),
        (["recipe.selection=last"], "recipe.selection: best_on_selection → last"),
        (["tune=4"], "tune: None → 4"),
        (["tune=4", "tune_space={recipe.epochs: [1, 3]}"], "tune_space: null → {"),
        (["dataset.metrics=f1"], 'dataset.metrics: {"accuracy": "max"} → {'),
    ],
)
def test_what_was_made_under_other_conditions_is_not_tested(changed: list[str], says: str) -> None:
    before = _results("lora", 0.9, 0.91, 0.905)
    after = Results([made(0.5 + seed / 100, "method=lora", f"seed={seed}", *changed) for seed in range(3)])
    comparison = against.compare(before, after)
    assert not comparison.fell
    text = against.render(comparison)
    assert f"- {says}" in text
    assert "| ≠   | lora" in text
    assert max(map(len, text.splitlines())) <= 80


def test_other_data_is_not_tested() -> None:
    other = {"data_fingerprint": "other", "model_fingerprint": "m"}
    comparison = against.compare(_results("lora", 0.9, 0.91), _results("lora", 0.5, 0.52, environment=other))
    assert not comparison.fell
    assert "data: d → other" in comparison.settings
    unsaid = against.compare(_results("lora", 0.9, 0.91), _results("lora", 0.5, 0.52, environment={}))
    assert unsaid.settings == []
    assert not unsaid.changes[0].unlike


def test_costs_of_a_busy_machine_are_not_compared() -> None:
    efficiency = {"train_time_s": 10.0, "train_cores_fraction": 0.3, "peak_memory_bytes": 5.0}
    before = _results("lora", 0.5, 0.6, efficiency={**efficiency, "train_cores_fraction": 1.0})
    (change,) = against.compare(before, _results("lora", 0.5, 0.6, efficiency=efficiency)).changes
    assert change.costs["train_time_s"] is None
    assert change.costs["peak_memory_bytes"] == 1.0


def test_a_comparison_shows_costs_versions_and_what_has_no_partner() -> None:
    environment = {"data_fingerprint": "d", "model_fingerprint": "m", "gpu": [], "packages": {"peft": "0.21"}}
    old = _results("lora", 0.5, 0.6, 0.7, environment=environment, efficiency={"train_time_s": 10.0})
    newer = {**environment, "packages": {"peft": "0.22"}}
    new = _results("lora", 0.5, 0.6, environment=newer, efficiency={"train_time_s": 15.0})
    comparison = against.compare(old, new)
    text = against.render(comparison)
    assert comparison.changes[0].costs["train_time_s"] == 1.5
    assert "- peft: 0.21 → 0.22" in text
    assert "- 1 run before alone" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_exit_status_says_that_a_score_fell(tmp_path: Path, run_cli: Run) -> None:
    before, after = _stored(tmp_path / "a", 0.9, 0.91, 0.905), _stored(tmp_path / "b", 0.7, 0.72, 0.7)
    status, out, _ = run_cli("report", str(after), f"against={before}")
    assert status == 1
    assert "| !   | lora" in out
    assert run_cli("report", str(before), f"against={after}")[0] == 0
