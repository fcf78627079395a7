"""A cell's learning curve, from the files beside its records."""

from pathlib import Path

from peftbench.results.curves import Point
from peftbench.results.report import load, stats
from peftbench.results.report.page import data
from peftbench.results.report.page.curve import over_seeds
from peftbench.results.report.page.render import render
from tests.helpers import studies


def points(*scores: float | None, every: int = 10) -> list[Point]:
    return [
        Point(step=every * (i + 1), examples=0, seconds=0.0, lr=0.1, loss=1.0, selection_score=score)
        for i, score in enumerate(scores)
    ]


def test_mean_and_band_at_the_steps_that_all_have() -> None:
    curve = over_seeds([points(0.5, None, 0.7, 0.9), points(0.6, 0.9, 0.8)])
    assert curve is not None
    assert list(curve.steps) == [10, 30]
    assert list(curve.low) == [0.5, 0.7]
    assert list(curve.high) == [0.6, 0.8]
    assert [round(value, 9) for value in curve.mean] == [0.55, 0.75]


def test_a_point_is_no_curve() -> None:
    assert over_seeds([]) is None
    assert over_seeds([points(0.5)]) is None
    assert over_seeds([points(0.5, 0.6), points(0.5, 0.6, every=7)]) is None


def test_where_the_selection_split_was_asked_once_the_losses_stand() -> None:
    curve = over_seeds([points(None, None, 0.5)])
    assert curve is not None
    assert curve.of_loss
    assert (list(curve.steps), list(curve.mean)) == ([10, 20, 30], [1.0, 1.0, 1.0])
    strange = points(None, None, None, every=1)
    strange[0]["step"] = 0
    strange[1]["loss"] = None  # type: ignore[typeddict-item]
    from_elsewhere = over_seeds([strange])
    assert from_elsewhere is not None
    assert list(from_elsewhere.steps) == [0, 3]
    noisy = points(*[None] * 125)
    for number, point in enumerate(noisy):
        point["loss"] = 2.0 * (number % 2)
    long = over_seeds([noisy])
    assert long is not None
    assert len(long.steps) < 25
    assert long.steps[-1] == 1250
    assert max(long.mean) - min(long.mean) < 0.6, "single batches are noise"


def test_a_long_curve_is_thinned_to_its_ends() -> None:
    curve = over_seeds([points(*(i / 200 for i in range(200)))])
    assert curve is not None
    assert len(curve.steps) == 48
    assert (curve.steps[0], curve.steps[-1]) == (10, 2000)


def test_the_page_draws_what_lies_beside_the_records(results: Path) -> None:
    studies.left(results, [studies.record("lora", "sst2", seed=seed) for seed in (0, 1)])
    document = data.document(stats.leaderboard(load.load(results)))
    (row,) = document.rows
    (cell,) = row.cells.values()
    assert cell.curve is not None
    assert list(cell.curve.steps) == list(range(5, 125, 5))
    assert all(
        low <= mean <= high for low, mean, high in zip(cell.curve.low, cell.curve.mean, cell.curve.high, strict=True)
    )
    assert 'class="curve"' in render(document)
