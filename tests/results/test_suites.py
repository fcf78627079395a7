"""Suites of data sets: their members, and what their averages hold and leave out."""

import csv
import dataclasses
import io

import pytest

from peftbench.config import paths
from peftbench.results.records import RunRecord
from peftbench.results.report import render_csv, render_markdown, stats, suites
from tests.helpers.boards import board, made
from tests.helpers.composed import composed


#              cola  mnli m / mm   mrpc a / f1   rte   superglue_rte   GLUE of these four
#   full       .50   .80 / .60     .70 / .90     .60   -               (.50 + .70 + .80 + .60) / 4 = .65
#   lora       .40   .80 / -       .70 / .90     -     .55             none: mnli's second split and rte are missing
def _suite_records() -> list[RunRecord]:
    def one(method: str, dataset: str, splits: dict[str, dict[str, float]]) -> RunRecord:
        metrics = {
            split: {"values": values, "score": sum(values.values()) / len(values)} if values else None
            for split, values in splits.items()
        }
        score = next(iter(metrics.values()))["score"]  # type: ignore[index]
        return made(score, f"method={method}", f"dataset={dataset}", metrics=metrics)

    def mnli(method: str, mismatched: dict[str, float]) -> RunRecord:
        both = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": mismatched}
        return one(method, "mnli", both)

    return [
        one("full", "cola", {"validation": {"matthews": 0.5}}),
        mnli("full", {"accuracy": 0.6}),
        one("full", "mrpc", {"validation": {"accuracy": 0.7, "f1": 0.9}}),
        one("full", "rte", {"validation": {"accuracy": 0.6}}),
        one("lora", "cola", {"validation": {"matthews": 0.4}}),
        mnli("lora", {}),
        one("lora", "mrpc", {"validation": {"accuracy": 0.7, "f1": 0.9}}),
        one("lora", "superglue_rte", {"validation": {"accuracy": 0.55}}),
    ]


@pytest.fixture
def four_tasks(monkeypatch: pytest.MonkeyPatch) -> stats.Leaderboard:
    """GLUE as if it had four tasks."""
    members = {"glue": ["cola", "mnli", "mrpc", "rte"], "super_glue": ["superglue_rte"]}
    monkeypatch.setattr(suites, "members", lambda: members)
    return board(*_suite_records())


def test_a_suite_averages_metrics_and_splits_first(four_tasks: stats.Leaderboard) -> None:
    assert list(four_tasks.suites) == ["glue"]  # Of the other there is one data set alone.
    by_method = {row[0]: suite for row, suite in four_tasks.suites["glue"].items()}
    assert by_method["full"] == suites.Suite(pytest.approx(0.65), [])
    assert by_method["lora"] == suites.Suite(None, ["mnli (validation_mismatched)", "rte"])
    text = render_markdown.render(four_tasks)
    assert "65.0" in text
    assert "- glue, missing: mnli (validation_mismatched), rte (1 row)" in text


def _of_other_data(kind: str) -> list[RunRecord]:
    """`full` on other data that are called rte: with another fingerprint, other columns, or one's own file."""
    score = {"validation": {"values": {"accuracy": 0.0}, "score": 0.0}}
    record = made(0.0, "method=full", "dataset=rte", metrics=score, key="other")
    if kind == "fingerprint":
        return [dataclasses.replace(record, environment={**record.environment, "data_fingerprint": "other"})]
    changed = {
        "columns": {"text": ["sentence1"]},
        "path": {"path": "mine/rte"},
        "metric": {"metrics": {"f1": "max"}},
        "own file": {"format": "csv", "suite": None},
    }[kind]
    dataset = {**record.config["dataset"], **changed}
    return [dataclasses.replace(record, config={**record.config, "dataset": dataset})]


@pytest.mark.parametrize("kind", ["fingerprint", "columns", "path", "metric", "own file"])
def test_a_suite_averages_no_other_data_of_a_name(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(suites, "members", lambda: {"glue": ["cola", "mnli", "mrpc", "rte"]})
    result = board(*_suite_records(), *_of_other_data(kind))
    full = result.suites["glue"]["full", "tiny_bert", ""]
    text = render_markdown.render(result)
    if kind == "fingerprint":  # Nothing says which are GLUE's.
        assert full.mean is None
        assert "rte (2 different data: rte (" in text
    else:
        assert full == suites.Suite(pytest.approx(0.65), [])
        assert "rte: 1 run on other data of that name, which the average of glue leaves out" in text
        alone = board(*[r for r in _suite_records() if r.config["dataset"]["name"] != "rte"], *_of_other_data(kind))
        assert alone.suites["glue"]["full", "tiny_bert", ""] == suites.Suite(None, ["rte"])
    assert {cell.n for row in result.rows for cell in row.cells.values() if cell} == {1}


def test_a_suites_data_sets_are_its_own_as_they_are_composed() -> None:
    for suite, names in suites.members().items():
        for name in names:
            record = made(0.5, "method=full", f"dataset={name}")
            assert suites._suites(record) == [suite], name


def test_every_metric_and_split_is_shown(four_tasks: stats.Leaderboard) -> None:
    assert list(four_tasks.details) == [
        "mnli validation_matched accuracy", "mnli validation_mismatched accuracy", "mrpc accuracy", "mrpc f1",
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(render_csv.render(four_tasks))))
    full, lora = sorted(rows, key=lambda row: row["method"])
    assert (full["mrpc_f1"], full["mnli_validation_mismatched_accuracy"], full["glue"]) == ("0.9", "0.6", "0.65")
    assert (lora["mnli_validation_mismatched_accuracy"], lora["glue"]) == ("", "")
    assert "mrpc f1" in render_markdown.render(four_tasks)


def test_what_is_held_out_is_shown_and_a_single_data_set_isnt_named_again() -> None:
    accuracies = {"train": 0.9, "cola/validation": 0.2, "sst2/validation": 0.7, "rte/validation": 0.5,
                  "rte/validation@2": 0.6}  # fmt: skip
    metrics = {split: {"values": {"accuracy": value}, "score": value} for split, value in accuracies.items()}
    words = ["method=lora", "model=tiny_gpt2", "dataset=mixture", "dataset.parts=[sst2,cola]", "dataset.held_out=[rte]",
             "formulation=text"]  # fmt: skip
    result = board(made(0.7, *words, metrics=metrics))
    (name,) = result.columns
    assert [heading.removeprefix(name) for heading in result.details] == [
        " cola/validation accuracy", " rte/validation accuracy", " rte/validation@2 accuracy",
        " sst2/validation accuracy",
    ]  # fmt: skip
    text = render_markdown.render(result).partition("## By metric")[2].partition("##")[0]
    assert "| rte/validation@2 accuracy |" in text
    assert name not in text
    assert "60.0 (n=1)" in text


def test_the_members_of_a_suite_are_read_off_the_files() -> None:
    said = {name: composed([f"dataset={name}"]).dataset.suite for name in paths.choices("dataset")}
    assert suites.members() == {
        suite: [name for name, of in said.items() if of == suite] for suite in {s for s in said.values() if s}
    }
    assert {suite: len(names) for suite, names in suites.members().items()} == {"glue": 9, "super_glue": 8}
