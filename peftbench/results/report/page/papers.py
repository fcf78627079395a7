"""The page's part "Papers against ours": published rows beside the runs of them that were made here."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from peftbench.results.report.page.document import Axis, Chart, Ends, Folded, Mark, MarkedAxis, Section, Table

#: An interquartile range reaches so far to each side.
_HALF_IQR = 0.5
#: Rows of a picture, at most.
_MOST = 24


def section(rows: Sequence[Any]) -> Section:
    """The part of the page.

    Args:
        rows: `reproduction.match.JudgedRow`, one at least.
    """
    from peftbench.results.reproduction import table  # Brings SciPy and Hydra.

    return Section(
        id="papers",
        title=table.HEADING,
        note=table.NOTE,
        tables=[Table("Published rows, and the verdict on ours", table.SHORT, table.short(rows))],
        pictures=charts(rows),
        folded=[Folded(f"{row.experiment} on {row.dataset}: {row.verdict.verdict}", table.facts(row)) for row in rows],
        unfolded=len(rows) == 1,
    )


def charts(rows: Sequence[Any]) -> list[Chart]:
    """A picture for every data set and metric: printed value and ours on one axis."""
    by_data: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        if row.expected is not None:
            by_data[row.dataset, row.expected.metric or "score"].append(row)
    return [
        Chart(f"{dataset}: printed and ours", [Axis(f"{metric}, %", [_compared(row) for row in some[:_MOST]])])
        for (dataset, metric), some in sorted(by_data.items())
    ]


def _compared(row: Any) -> MarkedAxis:
    from peftbench.results.reproduction import table

    expected, verdict = row.expected, row.verdict
    half = None if expected.spread is None else expected.spread * (_HALF_IQR if expected.spread_kind == "iqr" else 1)
    around = None if half is None else (expected.value - half, expected.value + half)
    marks = [Mark("printed", table.printed(expected), 100 * expected.value, _percent(around), printed=True)]
    if verdict.value is not None:
        marks.append(Mark("ours", table.ours(verdict), 100 * verdict.value, _percent(verdict.interval)))
    return MarkedAxis(row.experiment, marks, _percent(verdict.predicted), verdict.verdict)


def _percent(ends: Ends | None) -> Ends | None:
    return None if ends is None else (100 * ends[0], 100 * ends[1])
