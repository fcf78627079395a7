"""Which records count as runs of a published row, and what keeps them from a verdict."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import experiments, identity
from peftbench.config.types import RunConfig
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.report import render_markdown, stats
from peftbench.results.report.load import Results
from peftbench.results.reproduction import match, table
from peftbench.results.reproduction.match import JudgedRow

TOY = [Path(__file__).parents[2] / "assets" / "reproduce"]


def official(experiment: str, dataset: str) -> RunConfig:
    return experiments.official(experiment, dataset, TOY)


SST2, MRPC = official("toy/lora_bert", "sst2"), official("toy/lora_bert", "mrpc")
START = official("toy/full_bert", "sst2")


def record(config: RunConfig, score: float = 0.9, **environment: Any) -> RunRecord:
    """A completed run of a configuration, whose key is right."""
    split = config.dataset.evaluation[0]
    made = RunRecord(
        key="",
        status="completed",
        config=identity.description(config),
        score=score,
        metrics={split: {"values": {"accuracy": score, "f1": 0.1}, "score": score, "n": 40}},
        environment={"data_fingerprint": "d", "model_fingerprint": "m", **environment},
    )
    made.key = key_of(made)
    return made


def seeds(config: RunConfig, *scores: float, **environment: Any) -> list[RunRecord]:
    return [record(dataclasses.replace(config, seed=seed), score, **environment) for seed, score in enumerate(scores)]


def judged(records: list[RunRecord], config: RunConfig = SST2, composed: RunConfig | None = None) -> JudgedRow:
    return match.row(records, config, composed or config)


def test_runs_as_the_row_has_it_are_judged() -> None:
    row = judged(seeds(SST2, 0.90, 0.91))
    assert (row.verdict.verdict, row.verdict.seeds, len(row.keys)) == ("compatible", 2, 2)
    assert row.departures == ["All of it is made up."]
    assert judged(seeds(SST2, 0.30, 0.31)).verdict.verdict == "lower"


def test_a_run_made_by_hand_counts_too() -> None:
    """Of the same configuration, without the experiment's name."""
    plain = dataclasses.replace(SST2, experiment=None, expected=None, by_dataset=[])
    assert judged(seeds(plain, 0.90, 0.91)).verdict.verdict == "compatible"


def test_a_seed_counts_once_and_runs_of_one_machine_are_judged_together() -> None:
    other = dataclasses.replace(SST2, hardware=dataclasses.replace(SST2.hardware, precision="bf16-mixed"))
    row = judged([*seeds(other, 0.5), *seeds(SST2, 0.90, 0.91)])
    assert row.verdict.seeds == 2
    assert judged(seeds(other, 0.9, 0.9)).departures[-1] == "Made in bf16-mixed precision."


def _changed(**recipe: Any) -> RunConfig:
    return dataclasses.replace(SST2, recipe=dataclasses.replace(SST2.recipe, **recipe))


def test_a_subset_gets_no_verdict() -> None:
    subset = _changed(train_samples=40)
    row = judged(seeds(subset, 0.90, 0.91))
    assert row.verdict.reasons == ["a run differs in recipe.train_samples=40", "no run is recorded"]
    asked = judged(seeds(subset, 0.90, 0.91), composed=subset)
    assert (asked.verdict.verdict, asked.verdict.value) == ("no verdict", pytest.approx(0.905))
    assert asked.verdict.reasons == ["the runs differ from the row in recipe.train_samples=40"]


def test_another_base_gets_no_verdict() -> None:
    base = dataclasses.replace(SST2, model=dataclasses.replace(SST2.model, name="mine", checkpoint="mine", config=None))
    reasons = judged(seeds(base, 0.90, 0.91), composed=base).verdict.reasons
    assert "another base: mine; the paper's is tiny_bert" in reasons


def test_other_data_of_the_name_get_no_verdict() -> None:
    runs = seeds(SST2, 0.90, 0.91)
    runs[1].footnotes.append("sst2: validation has 40 rows, the official one 872")
    assert judged(runs).verdict.reasons == ["sst2: validation has 40 rows, the official one 872"]


def test_a_record_whose_key_does_not_verify_is_never_judged() -> None:
    runs = seeds(SST2, 0.90, 0.91)
    for run in runs:
        run.config["recipe"] = {**run.config["recipe"], "epochs": 2, "weight_decay": 0.01}
        run.key = "0" * 20
    row = judged(runs)
    assert row.verdict.verdict == "no verdict"
    assert "its key isn't that of its configuration" in row.verdict.reasons[0]


def test_another_selection_rule_gets_no_verdict() -> None:
    last = _changed(selection="last")
    assert last.expected is not None
    row = match.row(seeds(last, 0.90, 0.91), last, last)
    assert row.verdict.reasons == ["another selection rule: last; the paper's is best_on_validation"]


def test_the_start_must_be_the_papers() -> None:
    start = record(START)
    before = seeds(MRPC, 0.5, 0.51, start=start.key)
    assert judged([start, *before], MRPC).verdict.verdict == "compatible"
    without = judged([start, *seeds(MRPC, 0.5, 0.51)], MRPC)
    assert without.verdict.reasons == [
        "the paper starts from its run of experiment=toy/full_bert dataset=sst2, these runs at the checkpoint"
    ]
    assert f"the start, run {start.key}, isn't recorded here" in judged(before, MRPC).verdict.reasons[0]
    another = record(SST2)
    elsewhere = judged([another, *seeds(MRPC, 0.5, 0.51, start=another.key)], MRPC)
    assert elsewhere.verdict.reasons == [
        f"the start, run {another.key}, isn't of experiment=toy/full_bert dataset=sst2"
    ]
    late = judged([start, *seeds(SST2, 0.9, 0.91, start=start.key)])
    assert late.verdict.reasons == [f"the paper starts at the checkpoint, these runs from run {start.key}"]


def test_an_older_record_says_its_start_in_a_footnote() -> None:
    old = record(SST2)
    old.footnotes.append("mrpc: tiny_bert starts from a run of full on sst2 (0123456789abcdef0123)")
    assert match.start_of(old) == "0123456789abcdef0123"
    assert match.start_of(record(SST2)) is None


def test_a_metric_and_a_split_may_be_means_of_two() -> None:
    both = dataclasses.replace(SST2, expected=dataclasses.replace(SST2.expected, metric="accuracy+f1"))  # type: ignore[type-var]
    assert judged(seeds(both, 0.9, 0.9), both).verdict.value == pytest.approx(0.5)
    missing = dataclasses.replace(SST2, expected=dataclasses.replace(SST2.expected, metric="matthews"))  # type: ignore[type-var]
    assert "2 records have no matthews on validation" in judged(seeds(missing, 0.9, 0.9), missing).verdict.reasons


def test_a_row_without_a_figure_says_so() -> None:
    row = judged(seeds(START, 0.9), START)
    assert (row.verdict.verdict, row.verdict.reasons) == ("no verdict", [match._NO_FIGURE])


def test_a_report_shows_papers_against_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match.rows, "__defaults__", (official,))
    board = stats.leaderboard(Results([record(START), *seeds(SST2, 0.90, 0.91)]))
    text = render_markdown.render(board)
    assert f"## {table.HEADING}" in text
    assert "| toy/lora_bert | sst2     |  90 ± 5 | 90.50 [84.1, 96.9] | compatible |" in text
    assert "- departure: All of it is made up." in text
    assert "(made up)" in text
    assert "](leaderboard-papers.svg)" in text
    plain = dataclasses.replace(SST2, experiment=None, expected=None, by_dataset=[])
    assert table.HEADING not in render_markdown.render(stats.leaderboard(Results([record(plain)])))


def test_data_sets_of_an_experiment_are_one_row() -> None:
    start = record(START)
    runs = seeds(MRPC, 0.5, 0.51, start=start.key)
    for run in runs:
        run.environment["model_fingerprint"] = "after the start"
    board = stats.leaderboard(Results([start, *seeds(SST2, 0.9, 0.91), *runs]))
    lora, full = board.rows
    assert (lora.method, full.method) == ("lora", "full")
    assert "lr=" not in lora.variant
    assert None not in lora.cells.values()
