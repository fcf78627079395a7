"""The figures of all rows in long form, as Parquet: a line a figure, with its interval where it has one."""

import io
from typing import Any

from peftbench.results.report.score_tables import name_of, sure_of
from peftbench.results.report.stats import Leaderboard


def export(board: Leaderboard) -> bytes:
    """Columns: method, model, variant, column (a data set, or null for what holds for the whole row), figure, value,
    low, high, sd, n, basis (what the interval is of), tied (can't be told from the best), busy (a busy machine slowed
    it, and nothing is compared by it)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        **dict.fromkeys(("method", "model", "variant", "column", "figure"), pa.string()),
        **dict.fromkeys(("value", "low", "high", "sd"), pa.float64()),
        **{"n": pa.int64(), "basis": pa.string(), "tied": pa.bool_(), "busy": pa.bool_()},
    }
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines(board), pa.schema(kinds)), stream)
    return stream.getvalue()


def lines(board: Leaderboard) -> list[dict[str, Any]]:
    """The lines, by row."""
    figures_of: list[dict[str, Any]] = []
    for row in board.rows:
        name = {"method": row.method, "model": row.model, "variant": row.variant}
        for column, cell in row.cells.items():
            if cell is None:
                continue
            sure = sure_of(board, row, column)
            ends = sure.interval
            figures_of.append(
                {
                    **name,
                    **{"column": column, "figure": "score", "value": cell.mean, "sd": cell.std, "n": cell.n},
                    **({} if ends is None else {"low": ends.low, "high": ends.high, "basis": str(ends.basis)}),
                    "tied": sure.tied,
                }
            )
            share = board.evidence.ways.get((name_of(row), column))
            if share is not None:
                ways = {"value": share.share, "low": share.low, "high": share.high}
                figures_of.append({**name, "column": column, "figure": "share of the way to full", **ways})
        for heading, by_row in board.details.items():
            if (score := by_row.get(name_of(row))) is not None:
                figures_of.append({**name, "figure": heading, "value": score.mean, "sd": score.std, "n": score.n})
        for suite, averages in board.suites.items():
            figures_of.append({**name, "figure": suite, "value": averages[name_of(row)].mean})
        figures = {"mean": row.mean, **row.figures}
        figures_of += [
            {**name, "figure": figure, "value": value, "busy": figure in row.busy}
            for figure, value in sorted(figures.items())
        ]
    return figures_of
