"""A cell's learning curve, from the files beside its records."""

import json
from pathlib import Path

from peftbench.results import curves
from peftbench.results.curves import Point
from peftbench.results.reading import key_of
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
    assert over_seeds([points(None, None, None)]) is None


def test_a_long_curve_is_thinned_to_its_ends() -> None:
    curve = over_seeds([points(*(i / 200 for i in range(200)))])
    assert curve is not None
    assert len(curve.steps) == 48
    assert (curve.steps[0], curve.steps[-1]) == (10, 2000)


def test_the_page_draws_what_lies_beside_the_records(results: Path) -> None:
    for seed in (0, 1):
        record = studies.record("lora", "sst2", seed=seed)
        record.key = key_of(record)
        cell = Path("sst2", "minilm", "lora")
        file = results / "records" / cell / f"{record.key}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record.to_dict()))
        beside = results / "curves" / cell / f"{record.key}.parquet"
        beside.parent.mkdir(parents=True, exist_ok=True)
        curves.write(beside, points(0.5, 0.6 + seed / 10, 0.8))
    document = data.document(stats.leaderboard(load.load(results)))
    (row,) = document.rows
    (cell_of_page,) = row.cells.values()
    assert cell_of_page.curve is not None
    assert list(cell_of_page.curve.high) == [0.5, 0.7, 0.8]
    assert 'class="curve"' in render(document)
