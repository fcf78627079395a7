"""Tables of what was evaluated beyond the score: calibration, robustness, slices, for every cell that has them."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.results.report.suites import RowName, in_full
from peftbench.system import escape

NOTE = """\
Means over a cell's runs. ECE: how far confidence lies from accuracy, in percent, over 15 bins of equally many examples;
Brier: from 0 to 2; both again after temperature scaling. Then the accuracy on the half of the examples that the model
is surest of. A drop is what the score loses where texts are changed, in points, with the mean of the runs' 95 %
intervals over examples.
"""


@dataclass(frozen=True)
class EvaluationFigure:
    """One figure of one cell, a mean over its runs; `low` and `high` where each run has an interval."""

    row: RowName
    column: str
    figure: str
    runs: int
    value: float
    low: float | None = None
    high: float | None = None


def collect(records: Iterable[RunRecord], cells: Mapping[int, tuple[RowName, str]]) -> list[EvaluationFigure]:
    """The figures of all runs, averaged by row, column and figure, in their order.

    Args:
        cells: by a record's `id` its row and column.
    """
    by_cell: dict[tuple[RowName, str], dict[str, list[tuple[float, float | None, float | None]]]] = defaultdict(dict)
    for record in records:
        for name, figure in _figures(record.evaluation or {}):
            by_cell[cells[id(record)]].setdefault(name, []).append(figure)
    return [
        EvaluationFigure(row, column, name, len(runs), *(_mean([run[i] for run in runs]) for i in range(3)))  # type: ignore[arg-type]
        for (row, column), figures in sorted(by_cell.items(), key=lambda cell: cell[0])
        for name, runs in figures.items()
    ]


def _figures(evaluated: Mapping[str, Any]) -> Iterable[tuple[str, tuple[float, float | None, float | None]]]:
    """The figures of one record: heading, value and interval."""
    calibration = evaluated.get("calibration") or {}
    for name, key, scale in _CALIBRATION:
        if calibration.get(key) is not None:
            yield name, (scale * calibration[key], None, None)
    for name, figures in (evaluated.get("robustness") or {}).items():
        low, high = figures.get("drop_low"), figures.get("drop_high")
        whole = low is not None and high is not None
        yield f"drop by {name}", (100 * figures["drop"], *((100 * low, 100 * high) if whole else (None, None)))
    for name, sliced in (evaluated.get("slices") or {}).items():
        scores = [of_slice["score"] for of_slice in sliced["groups"].values()]
        if scores:
            worst = sliced["groups"].get(sliced.get("worst"))
            yield f"worst {name}", (100 * (worst["score"] if worst else min(scores)), None, None)


#: Heading, name in a record and scale of each figure of calibration.
_CALIBRATION = (
    ("ECE", "ece", 100),
    ("ECE scaled", "ece_scaled", 100),
    ("Brier", "brier", 1),
    ("Brier scaled", "brier_scaled", 1),
    ("accuracy, surest half", "selective_accuracy_50", 100),
)


def _mean(values: Sequence[float | None]) -> float | None:
    """Added up in sorted order: the last digit mustn't depend on the records' order."""
    numbers = [value for value in values if value is not None]
    return statistics.fmean(sorted(numbers)) if numbers and len(numbers) == len(values) else None


#: A table's first headings; its figures follow.
COLUMNS = ("method", "model", "data set", "runs")


def table(figures: Sequence[EvaluationFigure]) -> tuple[list[str], list[list[str]]]:
    """Headings and lines: a line a cell, a column a figure."""
    headings = list(dict.fromkeys(one.figure for one in figures))
    by_cell: dict[tuple[RowName, str], dict[str, EvaluationFigure]] = defaultdict(dict)
    for one in figures:
        by_cell[one.row, one.column][one.figure] = one
    lines = [
        [
            in_full(row),
            row[1],
            column,
            str(max(one.runs for one in of_cell.values())),
            *(_written(of_cell.get(name)) for name in headings),
        ]
        for (row, column), of_cell in by_cell.items()
    ]
    return [*COLUMNS, *(escape.line(name) for name in headings)], lines


def _written(one: EvaluationFigure | None) -> str:
    if one is None:
        return "-"
    if one.low is None or one.high is None:
        return f"{one.value:.3f}" if one.figure.startswith("Brier") else f"{one.value:.1f}"
    return f"{one.value:.1f} [{one.low:.1f}, {one.high:.1f}]"
