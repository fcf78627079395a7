"""The leaderboard as CSV: a row per method and model, every figure in its own column, missing ones empty. The last
column, `busy`, names the figures that a busy machine slowed, and that nothing is compared by."""

import csv
import io

from peftbench.results.report import forgetting
from peftbench.results.report.certainty import Sure
from peftbench.results.report.score_tables import sure_of
from peftbench.results.report.stats import Leaderboard, Score
from peftbench.system import escape

FILE = "leaderboard.csv"

#: Of a cell; `basis` says what the interval is of, `tied` whether it can't be told from the best (empty: not compared).
_PARTS = ("mean", "std", "n", "low", "high", "basis", "tied")


def render(board: Leaderboard) -> str:
    """The whole file."""
    figures = sorted({name for row in board.rows for name in row.figures})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    scores = [f"{column}_{part}" for column in board.columns for part in _PARTS]
    asked = forgetting.by_heading(board.forgetting)
    averages = [*board.suites, *(heading.replace(" ", "_") for heading in board.details)]
    headings = ["method", "model", "variant", *scores, "mean", *averages, *asked, *figures, "busy"]
    writer.writerow([escape.cell(heading) for heading in headings])
    for row in board.rows:
        cells: list[float | str | None] = []
        for column in board.columns:
            cell = row.cells[column]
            cells += (
                [None, None, 0, None, None, None, None] if cell is None else _cell(cell, sure_of(board, row, column))
            )
        name = (row.method, row.model, row.variant)
        means = [group[name].mean for group in board.suites.values()]
        means += [group[name].mean if name in group else None for group in board.details.values()]
        means += [figure.get(name) for figure in asked.values()]
        busy = " ".join(sorted(row.busy))
        writer.writerow(
            [*map(escape.cell, name), *cells, row.mean, *means, *(row.figures.get(f) for f in figures), busy]
        )
    return stream.getvalue()


def _cell(cell: Score | None, sure: Sure) -> list[float | str | None]:
    if cell is None:
        return [None, None, 0, *[None] * (len(_PARTS) - 3)]
    interval = sure.interval
    ends = [None, None, None] if interval is None else [interval.low, interval.high, str(interval.basis)]
    return [cell.mean, cell.std, cell.n, *ends, None if sure.tied is None else int(sure.tied)]
