"""A run leaves its learning curve and predictions with the labels' names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.config import identity
from peftbench.results import curves
from peftbench.results.curves import Point
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.curve import Curve
from tests.helpers import on_ranks
from tests.helpers.on_ranks import Watch

Train = Callable[..., RunRecord]
SHORT = ["recipe.max_steps=6", "recipe.epochs=9", "recipe.eval_steps=2", "recipe.train_samples=30", "measure=false"]


def test_a_run_leaves_its_curve(train: Train, results: Path) -> None:
    record = train(*SHORT, "recipe.warmup_ratio=0", "method.lr=1e-3")
    points = ResultStore(results).curve(record)
    assert points is not None
    assert [point["step"] for point in points] == [1, 2, 3, 4, 5, 6]
    # Batches of 8 of 30 examples: an epoch's fourth has 6 (in whichever place of the drawn order), so has none after.
    assert points[3]["examples"] == 30
    assert [point["selection_score"] is None for point in points] == [True, False] * 3
    assert [point["lr"] for point in points] == pytest.approx([1e-3 * (6 - step) / 6 for step in range(6)])
    assert all(0 < point["loss"] < 5 for point in points)
    seconds = [point["seconds"] for point in points]
    assert seconds == sorted(seconds)
    assert record.efficiency is not None
    assert seconds[-1] == pytest.approx(record.efficiency["train_time_s"])


def test_the_selection_is_recorded_beside_what_the_last_step_scored(train: Train, results: Path) -> None:
    record = train(*SHORT)
    points = ResultStore(results).curve(record)
    assert points is not None
    scores = {point["step"]: point["selection_score"] for point in points}
    assert record.selection == {
        "score": scores[record.selected_step],
        "last_score": scores[6],
        "last_step": 6,
        "evaluations": 3,
    }  # type: ignore[index]
    assert train(*SHORT, "recipe.selection=last").selection is None


def test_what_trains_nothing_has_no_curve(train: Train, results: Path) -> None:
    record = train("method=majority", "measure=false")
    assert (ResultStore(results).curve(record), record.selection) == (None, None)
    assert not (results / "curves").exists()


def test_a_run_that_was_stopped_goes_on_in_its_curve(
    at: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, but for the seconds. It stops between two points, where a sum of losses is open."""

    def points(folder: str, stop_after: int | None = None) -> list[dict[str, Any]]:
        trained = on_ranks.follow(at(folder), Watch(stop_after)).trained
        return [] if trained is None else [{**point, "seconds": 0} for point in trained.curve]

    monkeypatch.setattr(curves, "MOST", 5)  # A point every two steps.
    whole = points("whole")
    assert points("cut", stop_after=3) == []
    assert points("cut") == whole
    assert [point["step"] for point in whole] == [2, 4, 6]


def test_points_are_taken_as_often_as_a_curve_has_room_for() -> None:
    class Now:
        step_loss, step_lr, global_step = None, 0.5, 0

    curve = Curve(1000)
    import torch

    for step in range(1, 1001):
        Now.step_loss, Now.global_step = torch.tensor(float(step)), step  # type: ignore[assignment]
        curve.on_train_batch_end(Now, Now, None, {}, 0)  # type: ignore[arg-type]
        if step % 100 == 50:
            curve.score(step, step / 1000)
    points = curve.points([0.5] * 1000, [8] * 1000, selected=50)
    assert (len(points), points[0]["step"], points[-1]["step"]) == (200, 5, 1000)
    assert (points[1]["loss"], points[1]["seconds"], points[1]["examples"]) == (8, 5, 80)


def point(step: int, score: float | None = None) -> Point:
    return Point(step=step, examples=step, seconds=step, lr=0.1, loss=1.0, selection_score=score)


def test_evaluations_stay_and_the_rest_is_thinned_evenly() -> None:
    points = [point(step, 0.5 if step % 25 == 0 else None) for step in range(1, 101)]
    steps = [p["step"] for p in curves.thinned(points, always=50, most=10)]
    assert len(steps) == 10
    assert {25, 50, 75, 100} <= set(steps)
    assert (steps[0], max(b - a for a, b in zip(steps, steps[1:], strict=False)) < 25) == (1, True)
    every = [point(step, 0.5) for step in range(1, 101)]
    steps = [p["step"] for p in curves.thinned(every, always=37, most=10)]
    assert (len(steps), steps[0], steps[-1], 37 in steps) == (10, 1, 100, True)
    assert curves.thinned(points, always=None, most=100) == points


def test_a_curve_that_holds_something_else_is_none(
    cell: Callable[..., PreparedRun], results: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = cell().config
    store, record = ResultStore(results), RunRecord(key="k", status="completed", config=identity.description(config))
    file = store.places(config, "k").curve
    assert store.curve(record) is None
    curves.write(file, [point(1, 0.5), point(2)])
    assert store.curve(record) == [point(1, 0.5), point(2)]
    for table in (pa.table({"step": [1]}), pa.table({**{n: [0] * 999 for n in point(1)}})):
        pq.write_table(table, file)
        assert store.curve(record) is None
    file.write_bytes(b"no Parquet")
    assert store.curve(record) is None
    assert caplog.text.count("can't be read") == 3
    record.config["method"] = {**record.config["method"], "name": "../lora"}
    assert store.curve(record) is None


def test_predictions_have_the_labels_names(train: Train, results: Path) -> None:
    train(*SHORT)
    (file,) = (results / "predictions").rglob("*.parquet")
    rows = pq.read_table(file).to_pylist()
    names = ["negative", "positive"]
    assert {(row["label"], row["label_name"]) for row in rows} == set(enumerate(names))
    assert all(row["answer_name"] == names[row["answer"]] for row in rows)
