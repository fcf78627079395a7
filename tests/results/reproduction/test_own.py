"""Our own published records as rows: made from the records, and reproduced by them to the last bit."""

import pytest

from peftbench.config import experiments, loading, paths
from peftbench.results.report.load import load
from peftbench.results.reproduction import match, own, table

FILES = paths.choice_files("experiment")
QUICK = ("demo", "six_methods")


@pytest.mark.parametrize(
    "study", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in own.studies()]
)
def test_the_files_are_those_that_the_records_make(study: str) -> None:
    made = dict(own.experiments(study))
    records = load(own.PUBLISHED / study).completed
    assert records
    mixtures_alone = all(record.config["dataset"].get("parts") for record in records)
    assert bool(made) != mixtures_alone  # Of a mixture no experiment is made.
    assert set(made) == {name for name in FILES if name.startswith(f"peftbench/{study}_")}
    assert [name for name, text in made.items() if FILES[name].read_text() != text] == []


@pytest.mark.parametrize("study", [*QUICK, pytest.param("smollm2", marks=pytest.mark.slow)])
def test_the_runs_of_a_study_are_those_that_its_experiments_make(study: str) -> None:
    records = load(own.PUBLISHED / study).completed
    for name in dict(own.experiments(study)):
        for dataset in loading.read_yaml(FILES[name])["protocol"]:
            official = experiments.official(name, dataset)
            assert match.row(records, official, official).verdict.exact, name


def test_a_record_reproduces_itself_to_the_last_bit_and_another_does_not() -> None:
    records = load(own.PUBLISHED / "six_methods").completed
    official = experiments.official("peftbench/six_methods_lora", "sst2")
    row = match.row(records, official, official)
    assert (row.verdict.verdict, row.verdict.exact, row.verdict.seeds) == ("reproduced", True, 2)
    assert "to the last bit" in table.deciding(row.verdict)
    for record in records:
        record.metrics["validation"]["values"]["accuracy"] -= 1 / 872  # type: ignore[index]
    row = match.row(records, official, official)
    assert (row.verdict.exact, row.departures[-1]) == (
        False,
        "The same kind of processor gave other bits: versions or threads differ.",
    )
    assert row.verdict.verdict == "reproduced"  # One row of 872 off, which is far less than two floors.
    for record in records:
        record.environment["cpu"] = "another"
        record.metrics["validation"]["values"]["accuracy"] -= 0.2  # type: ignore[index]
    assert match.row(records, official, official).verdict.verdict == "lower"


def test_a_start_of_our_own_is_that_of_the_record() -> None:
    records = load(own.PUBLISHED / "tasks").completed
    official = experiments.official("peftbench/tasks_lora", "rte")
    assert official.start == {"experiment": "peftbench/tasks_full", "dataset": "mnli"}
    assert match.row(records, official, official).verdict.exact
