"""All figures in long form, as Parquet: a line a figure of a row, with its interval where it has one."""

import io
from collections.abc import Iterator
from typing import Any

from peftbench.results.report import forgetting, overfitting
from peftbench.results.report.score_tables import name_of, sure_of
from peftbench.results.report.stats import Leaderboard, LeaderboardRow
from peftbench.results.report.suites import RowName
from peftbench.results.statistics.intervals import Interval
from peftbench.results.statistics.joint import Share
from peftbench.results.statistics.pairs import Difference


def export(board: Leaderboard) -> bytes:
    """Columns: method, model, variant, column (a data set, or null for what holds for the whole row), figure, other
    (the row that it is a difference from), value, low, high, sd, n, basis (what the interval is of), tied (can't be
    told from the best), busy (a busy machine slowed it, and nothing is compared by it)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        **dict.fromkeys(("method", "model", "variant", "column", "figure", "other"), pa.string()),
        **dict.fromkeys(("value", "low", "high", "sd"), pa.float64()),
        **{"n": pa.int64(), "basis": pa.string(), "tied": pa.bool_(), "busy": pa.bool_()},
    }
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(lines(board), pa.schema(kinds)), stream)
    return stream.getvalue()


def lines(board: Leaderboard) -> list[dict[str, Any]]:
    """The lines: of each row, then of the pairs, the ranks, what is beyond the score, and memory by part."""
    made: list[dict[str, Any]] = []
    for row in board.rows:
        made += [*_scores(board, row), *_of_row(board, row)]
    return [*made, *_compared(board), *_beyond(board), *_memory(board)]


def _named(row: RowName, column: str | None, figure: str, value: float | None, **more: Any) -> dict[str, Any]:
    names = dict(zip(("method", "model", "variant"), row, strict=True))
    return {**names, "column": column, "figure": figure, "value": value, **more}


def _scores(board: Leaderboard, row: LeaderboardRow) -> Iterator[dict[str, Any]]:
    """Scores, what they are of the way to full fine-tuning, and over-fitting, by data set."""
    name = name_of(row)
    for column, cell in row.cells.items():
        if cell is None:
            continue
        sure = sure_of(board, row, column)
        basis = None if sure.interval is None else str(sure.interval.basis)
        about = {"sd": cell.std, "n": cell.n, "basis": basis, "tied": sure.tied}
        yield _named(name, column, "score", cell.mean, **about, **_ends(sure.interval))
        share = board.evidence.ways.get((name, column))
        if share is not None:
            yield _named(name, column, "share of the way to full", share.share, **_ends(share))
        gap = overfitting.gap(board.runs.get((name, column), []))
        if gap is not None:
            low, high = gap.ends or (None, None)
            yield _named(name, column, "train - eval", gap.mean, low=low, high=high)


def _ends(bounds: Interval | Share | Difference | None) -> dict[str, float]:
    return {} if bounds is None else {"low": bounds.low, "high": bounds.high}


def _of_row(board: Leaderboard, row: LeaderboardRow) -> Iterator[dict[str, Any]]:
    """Figures of a whole row: by metric, of suites, what it forgot, what it costs."""
    name = name_of(row)
    for heading, by_row in board.details.items():
        if (score := by_row.get(name)) is not None:
            yield _named(name, None, heading, score.mean, sd=score.std, n=score.n)
    for suite, averages in board.suites.items():
        yield _named(name, None, suite, averages[name].mean)
    for heading, asked in forgetting.by_heading(board.forgetting).items():
        if name in asked:
            yield _named(name, None, heading, asked[name])
    for figure, value in sorted({"mean": row.mean, **row.figures}.items()):
        yield _named(name, None, figure, value, busy=figure in row.busy)


def _compared(board: Leaderboard) -> Iterator[dict[str, Any]]:
    """Yields of every two rows the first less the other, whom `other` names, and p; ranks over data sets."""
    for panel in board.evidence.panels:
        for pair in panel.pairs:
            other = " · ".join(filter(None, pair.b))
            yield _named(
                pair.a, panel.column, "difference", pair.difference.mean, other=other, **_ends(pair.difference)
            )
            yield _named(pair.a, panel.column, "p (Holm)", pair.p_holm, other=other)
    for standing in board.evidence.standings:
        for row, low, high, best in zip(standing.rows, standing.low, standing.high, standing.best, strict=True):
            yield _named(row, None, "rank", None, low=low, high=high)
            yield _named(row, None, "share of draws in which it is best", best)


def _beyond(board: Leaderboard) -> Iterator[dict[str, Any]]:
    for one in board.evaluation:
        yield _named(one.row, one.column, one.figure, one.value, low=one.low, high=one.high, n=one.runs)


def _memory(board: Leaderboard) -> Iterator[dict[str, Any]]:
    """Bytes at the peak, by part, as measured and as estimated."""
    for one in board.memory:
        for kind, parts in (("measured", one.measured), ("estimated", one.estimated or {})):
            for part, size in parts.items():
                yield _named(one.row, one.column, f"memory.{part} ({kind})", size)
