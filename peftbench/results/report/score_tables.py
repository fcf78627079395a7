"""Tables of scores: how good, how sure, and what can't be told from the best."""

from collections.abc import Sequence

from peftbench.results.report import layout
from peftbench.results.report.certainty import Sure
from peftbench.results.report.evidence import PanelEvidence, RankIntervals
from peftbench.results.report.layout import MISSING, number
from peftbench.results.report.stats import Leaderboard, LeaderboardRow, Score
from peftbench.results.report.suites import RowName, in_full
from peftbench.results.statistics.intervals import Basis
from peftbench.system import escape

#: Beside a score that can't be told from the best, one that a warning is about, and a figure of a busy machine.
TIE, WARNED, BUSY = "=", "!", "*"
#: Rows of a list of pairs, and warnings on a terminal, at most.
_PAIRS, _WARNINGS = 12, 5

NOTE = """\
Scores are percentages: the mean of a data set's metrics, over seeds (n of
them), with its 95 % interval; sd is the sample standard deviation over seeds.
= marks what can't be told from the best (multiple comparisons with the best, at
5 %), ! a score of which a footnote says whether it means anything, * a figure
that a busy machine slowed and nothing is compared by, – a missing one.
"""


def one_data_set(board: Leaderboard, column: str) -> list[str]:
    """A heading and a table of every model with runs on a data set, the best first."""
    models = sorted({row.model for row in board.rows if row.cells[column] is not None})
    parts: list[str] = []
    for model in models:
        rows = [row for row in board.rows if row.model == model and row.cells[column] is not None]
        rows = sorted(rows, key=lambda row: (-_mean(row, column), row.method, row.variant))
        named = layout.names([name_of(row) for row in rows], order(board))
        parts += [f"### {escape.markdown(f'{column} ({board.metrics[column]}), {model}')}"]
        parts += [*_bases(board, rows, column), *layout.told(named)]
        header = ["", "method", "score", "95 % interval", "sd", "n"]
        lines = [_line(board, row, column, named.names[name_of(row)]) for row in rows]
        parts.append(layout.tables(header, lines, left=2))
    return parts


def order(board: Leaderboard) -> list[RowName]:
    """All rows in the order by which they are numbered."""
    return [name_of(row) for row in board.rows]


def name_of(row: LeaderboardRow) -> RowName:
    """The name that a row is known by."""
    return row.method, row.model, row.variant


def _mean(row: LeaderboardRow, column: str) -> float:
    cell = row.cells[column]
    return 0.0 if cell is None else cell.mean


def _line(board: Leaderboard, row: LeaderboardRow, column: str, name: str) -> list[str]:
    cell, sure = row.cells[column], sure_of(board, row, column)
    assert cell is not None
    score, deviation = (number(value, "{:.1f}", 100) for value in (cell.mean, cell.std))
    return [marks(board, row, column), name, score, interval(sure), deviation, str(cell.n)]


def sure_of(board: Leaderboard, row: LeaderboardRow, column: str) -> Sure:
    """The certainty of a cell."""
    return board.evidence.cells.get((name_of(row), column), Sure(None, None))


def marks(board: Leaderboard, row: LeaderboardRow, column: str) -> str:
    """The marks of a score: it can't be told from the best, or is warned of."""
    warned = (name_of(row), column) in board.warned
    return TIE * bool(sure_of(board, row, column).tied) + WARNED * warned


def figure(row: LeaderboardRow, name: str, form: str, factor: float = 1.0) -> str:
    """A figure of a row, with its mark where a busy machine slowed it."""
    value = row.figures.get(name)
    return number(value, form, factor) + BUSY * (value is not None and name in row.busy)


def interval(sure: Sure) -> str:
    """A cell's interval in percent."""
    bounds = sure.interval
    return MISSING if bounds is None else f"[{100 * bounds.low:.1f}, {100 * bounds.high:.1f}]"


def _bases(board: Leaderboard, rows: list[LeaderboardRow], column: str) -> list[str]:
    """The seeds and examples that the intervals are of, once for the table."""
    sures = [sure_of(board, row, column).interval for row in rows]
    made = [one for one in sures if one is not None]
    if not made:
        return []
    what = {
        Basis.CROSSED: "other seeds and other such examples",
        Basis.EXAMPLES: "other such examples (one seed)",
        Basis.SEEDS: "other seeds on these very examples (there are no scores by example)",
    }
    kinds = sorted({one.basis for one in made})
    text = "Intervals: " + "; ".join(what[kind] for kind in kinds) + "."
    if any(one.few_seeds for one in made):
        text += f" Few seeds: {min(one.seeds for one in made if one.few_seeds)}."
    return [layout.paragraph(text)]


def over_data_sets(board: Leaderboard) -> list[str]:
    """Tables by model of the rows that have a mean over all data sets, with the ranks between which each lies."""
    parts: list[str] = []
    for model in sorted({row.model for row in board.rows if row.mean is not None}):
        rows = [row for row in board.rows if row.model == model and row.mean is not None]
        ranks = {row: text for one in board.evidence.standings if one.model == model for row, text in _ranks(one)}
        named = layout.names([name_of(row) for row in rows], order(board))
        lines = [
            [named.names[name_of(row)], number(row.mean, "{:.1f}", 100), ranks.get(name_of(row), MISSING)]
            for row in rows
        ]
        parts += [f"### {escape.markdown(model)}", *layout.told(named)]
        parts.append(layout.tables(["method", "mean", "ranks, 95 %"], lines, left=1))
    return parts


def _ranks(standing: RankIntervals) -> list[tuple[RowName, str]]:
    return [
        (row, str(low) if low == high else f"{low} to {high}")
        for row, low, high in zip(standing.rows, standing.low, standing.high, strict=True)
    ]


def pairs(panel: PanelEvidence, numbered: Sequence[RowName]) -> str:
    """The best of a panel against the others: difference, interval, adjusted p, and what would separate them."""
    named = layout.names(panel.rows, numbered)
    lines = []
    for pair in panel.pairs[: len(panel.rows) - 1][:_PAIRS]:
        one, needed = pair.difference, pair.needed
        lines.append(
            [
                named.names[pair.b],
                f"{100 * one.mean:+.1f}",
                f"[{100 * one.low:+.1f}, {100 * one.high:+.1f}]",
                f"{pair.p_holm:.3f}",
                *(["", ""] if needed is None else [_count(needed.seeds), _count(needed.examples)]),
            ]
        )
    header = [f"{named.names[panel.rows[0]]} less", "points", "95 % interval", "p (Holm)", "seeds", "examples"]
    return layout.tables(header, lines, left=1)


def _count(needed: int | None) -> str:
    return MISSING if needed is None else f"{needed:,}"


def shares(board: Leaderboard, column: str) -> list[list[str]]:
    """Lines of a table: the share of the way from the linear probe to full fine-tuning, in percent."""
    lines = []
    named = layout.names(order(board))
    for (row, where), share in sorted(board.evidence.ways.items()):
        if where == column and share is not None:
            lines.append([named.names[row], row[1], f"{100 * share.share:.0f}",
                          f"[{100 * share.low:.0f}, {100 * share.high:.0f}]"])  # fmt: skip
    return lines


def wide(board: Leaderboard) -> str:
    """One table of all scores, with what a method costs most visibly: for a terminal that is wide enough."""
    columns = [f"{c} ({board.metrics[c]})" for c in board.columns]
    mean = ["mean"] if len(board.columns) > 1 else []
    header = ["method", "model", *columns, *mean, "trained", "% of all", "peak memory, MB", "samples/s"]
    lines = []
    for row in board.rows:
        total, trained = row.figures.get("params.total"), row.figures.get("params.trainable")
        share = 100 * trained / total if total and trained is not None else None
        lines.append(
            [
                in_full(name_of(row)),
                row.model,
                *(_in_one_line(board, row, c) for c in board.columns),
                *([number(row.mean, "{:.1f}", 100)] if mean else []),
                number(trained, "{:,.0f}"),
                number(share, "{:.3f}"),
                figure(row, "efficiency.peak_memory_bytes", "{:,.0f}", 1e-6),
                figure(row, "efficiency.train_samples_per_s", "{:.1f}"),
            ]
        )
    return layout.table(header, lines, left=2)


def _in_one_line(board: Leaderboard, row: LeaderboardRow, column: str) -> str:
    """A cell: its mean, its interval or else the deviation over seeds, its seeds, and its marks."""
    cell, sure = row.cells[column], sure_of(board, row, column)
    if cell is None:
        return MISSING
    between = _spread(cell) if sure.interval is None else interval(sure)
    parts = [f"{100 * cell.mean:.1f}", between, marks(board, row, column), f"(n={cell.n})"]
    return " ".join(filter(None, parts))


def score(cell: Score | None) -> str:
    """A mean with its deviation over seeds."""
    if cell is None:
        return MISSING
    return " ".join(filter(None, (f"{100 * cell.mean:.1f}", _spread(cell), f"(n={cell.n})")))


def _spread(cell: Score) -> str:
    return "" if cell.std is None else f"± {100 * cell.std:.1f}"


def legend(board: Leaderboard, table: str) -> str:
    """The meaning of the marks of a table on the terminal, with the warnings; "" where there are none."""
    said = [f"{TIE} can't be told from the best"] * any(one.tied for one in board.evidence.cells.values())
    said += [f"{WARNED} has a warning"] * bool(board.warned)
    slowed = any("efficiency.train_samples_per_s" in row.busy for row in board.rows)
    said += [f"{BUSY} slowed by a busy machine"] * (slowed and "samples/s" in table)
    rows = [(row, column) for row in board.rows for column in board.columns if marks(board, row, column)]
    warned = [text for row, column in rows for text in board.warned.get((name_of(row), column), [])[:1]]
    more = len(warned) - _WARNINGS
    lines = [*warned[:_WARNINGS], *([f"and {more} more: format=markdown has all"] if more > 0 else [])]
    return "\n".join(filter(None, ("; ".join(said), layout.bullets(lines))))
