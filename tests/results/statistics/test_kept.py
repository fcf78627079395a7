"""Scores by example as a record carries them."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peftbench.results import records
from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.report import certainty
from peftbench.results.statistics import kept
from peftbench.results.statistics.answers import Examples
from peftbench.run import outputs
from tests.helpers.boards import made
from tests.helpers.runs import records as of_folder

RNG = np.random.default_rng(0)


def carrying(values: np.ndarray, rows: np.ndarray | None = None, **overwritten: Any) -> RunRecord:
    """A record that carries these scores, as it is read back from its file."""
    rows = np.arange(len(values)) if rows is None else rows
    described = kept.described(kept.keep(Examples(rows, values)))
    record = made(float(values.mean()), "method=lora", "dataset=sst2")
    (split,) = record.config["dataset"]["evaluation"]
    record.metrics[split] = {"values": {"accuracy": record.score}, "n": len(values), kept.FIELD: described}
    if overwritten and described is not None:
        described.update(overwritten)
    return records.decode(json.dumps(record.to_dict()).encode())


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 16])
@pytest.mark.parametrize("n", [1, 7, 872])
def test_scores_come_back_to_the_last_bit(levels: int, n: int) -> None:
    values = RNG.normal(size=levels)[RNG.integers(levels, size=n)]
    run = kept.recorded(carrying(values))
    assert run is not None
    assert np.array_equal(run.values, values)


def test_an_accuracy_takes_a_bit_an_example() -> None:
    described = kept.described(kept.keep(Examples(np.arange(872), (RNG.random(872) < 0.8).astype(float))))
    assert described is not None
    assert len(json.dumps(described)) < 872 / 8 * 4 / 3 + 100


def test_what_takes_many_values_is_left_to_the_predictions() -> None:
    values = RNG.random(100)
    whole = kept.keep(Examples(np.arange(100), values))
    assert kept.described(whole) is None
    assert np.array_equal(whole.values, values)


@pytest.mark.parametrize(
    "broken",
    [
        {"n": 9},
        {"n": 10**12},
        {"n": "8"},
        {"n": True},
        {"units": 3},
        {"levels": []},
        {"levels": [0, "1"]},
        {"levels": [0.0, 1e999]},
        {"levels": list(range(17))},
        {"levels": None},
        {"codes": "not base64"},
        {"codes": ""},
        {"codes": None},
    ],
)
def test_what_does_not_hold_is_none(broken: dict[str, Any]) -> None:
    values = np.array([0, 1, 1, 0, 1, 1, 1, 0.0])
    assert kept.recorded(carrying(values)) is not None
    record = carrying(values)
    (record.scored_split or {})[kept.FIELD].update(broken)
    assert kept.recorded(record) is None
    assert certainty.scores_of([record], {}).units is None


def test_right_answers_that_are_not_the_scores_are_not_believed() -> None:
    record = carrying(np.array([0, 1, 1, 0.0]))
    assert kept.recorded(record) is not None
    record.score = 0.9
    assert kept.recorded(record) is None


@pytest.mark.parametrize("levels", [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0]])
@pytest.mark.parametrize("n", [1, 7, 8, 11])
def test_right_answers_are_counted_whatever_fills_the_last_byte(levels: list[float], n: int) -> None:
    record = carrying(np.random.default_rng(n).integers(0, 2, n).astype(float))
    codes = np.random.default_rng(n).bytes((n + 7) // 8)
    (record.scored_split or {})[kept.FIELD] |= {"levels": levels, "n": n, "codes": base64.b64encode(codes).decode()}
    bits = np.unpackbits(np.frombuffer(codes, np.uint8), count=n)
    record.score = float(np.take(levels, bits, mode="clip").mean())
    assert kept.recorded(record) is not None
    record.score += 1 / n
    assert kept.recorded(record) is None


def test_a_value_that_no_pseudo_value_has_is_refused() -> None:
    record = carrying(np.array([0.0, 1.0]))
    (record.scored_split or {})[kept.FIELD]["levels"] = [0.0, 1e308]
    assert kept.recorded(record) is None


def test_the_same_name_of_fewer_examples_is_of_others() -> None:
    """A stranger's record may name our examples and have five of them."""
    values = (RNG.random(50) < 0.8).astype(float)
    ours = carrying(values)
    name = (ours.scored_split or {})[kept.FIELD]["units"]
    theirs = carrying(np.array([1, 1, 0, 1, 1.0]), units=name)
    found = certainty.compare([certainty.scores_of([one], {}) for one in (ours, carrying(values), theirs)])
    assert found is not None
    assert found.places == [0, 1]


def test_a_code_without_a_level_breaks_nothing() -> None:
    run = kept.recorded(carrying(np.array([0.0, 1.0, 2.0]), levels=[0.0, 1.0, 2.0], codes="/w=="))
    assert run is not None
    assert run.values.max() <= 2


def test_seeds_on_other_examples_are_not_put_together() -> None:
    values = (RNG.random(50) < 0.8).astype(float)
    one, other = carrying(values), carrying(values, np.arange(50) + 1)
    assert certainty.scores_of([one, other], {}).examples is None
    both = certainty.scores_of([one, one], {})
    assert both.examples is not None
    assert both.examples.shape == (2, 50)


def test_a_score_is_kept_where_its_examples_cannot_be(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def fail(record: RunRecord, predictions: Path) -> None:
        raise ValueError("no metric")

    monkeypatch.setattr(outputs.answers, "pseudo_values", fail)
    record = made(0.5)
    assert outputs.scored_by_example(record, tmp_path / "p.parquet") is record
    assert "no scores by example" in caplog.text


def test_an_interval_of_a_record_alone_is_that_of_its_predictions(run_cli: Any, tiny: Any, results: Path) -> None:
    status, _, err = run_cli(*tiny("method=lora", "seed=0,1", "recipe.max_steps=2"))
    assert status == 0, err
    runs = of_folder(results)
    roots = {id(record): results for record in runs}
    carried = certainty.scores_of(runs, {})
    (split,) = runs[0].config["dataset"]["evaluation"]
    for record in runs:
        del record.metrics[split][kept.FIELD]
    read = certainty.scores_of(runs, roots)
    assert read.examples is not None
    assert carried.units == read.units
    assert np.array_equal(carried.examples, read.examples)  # type: ignore[arg-type]
    assert (results / Folder.PREDICTIONS).is_dir()
    assert certainty.scores_of(runs, {}).examples is None, "else the test says nothing"
