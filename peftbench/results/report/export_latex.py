"""The scores as a LaTeX table (booktabs): bold for what can't be told from the best."""

import re

from peftbench.results.report import layout
from peftbench.results.report.score_tables import name_of, sure_of
from peftbench.results.report.stats import Leaderboard, LeaderboardRow
from peftbench.system import escape

#: What LaTeX reads as commands.
_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}
_HEAD = """\
% \\usepackage{booktabs}
% Percent, with the 95 % interval; bold: can't be told from the best of its data
% set and model (multiple comparisons with the best, 5 %).
"""


def export(board: Leaderboard) -> bytes:
    """A table for every model: a row a method, a column a data set."""
    models = sorted({row.model for row in board.rows})
    return (_HEAD + "\n".join(_table(board, model) for model in models)).encode()


def text(written: object) -> str:
    """Anybody's text, which LaTeX shows as it is."""
    return re.sub(r'[&%$#_{}~^\\<>|"]', lambda match: _SPECIAL[match[0]], escape.line(written))


def _table(board: Leaderboard, model: str) -> str:
    rows = [row for row in board.rows if row.model == model]
    columns = [column for column in board.columns if any(row.cells[column] is not None for row in rows)]
    named = layout.names([name_of(row) for row in rows])
    mean = ["mean"] if len(columns) > 1 and any(row.mean is not None for row in rows) else []
    header = ["method", *(f"{text(column)} ({text(board.metrics[column])})" for column in columns), *mean]
    lines = [
        [text(named.names[name_of(row)]), *(_cell(board, row, column) for column in columns),
         *(["--" if row.mean is None else f"{100 * row.mean:.1f}"] if mean else [])]
        for row in rows
    ]  # fmt: skip
    notes = [f"% {text(note)}" for note in (f"model: {model}", *_shared(named))]
    return "\n".join(
        [
            *notes,
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            " & ".join(header) + r" \\",
            r"\midrule",
            *(" & ".join(line) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _shared(named: layout.Names) -> list[str]:
    return [f"all rows: {', '.join(named.shared)}"] * bool(named.shared) + named.legend


def _cell(board: Leaderboard, row: LeaderboardRow, column: str) -> str:
    cell, sure = row.cells[column], sure_of(board, row, column)
    if cell is None:
        return "--"
    mean = f"{100 * cell.mean:.1f}"
    mean = rf"\textbf{{{mean}}}" if sure.tied else mean
    if sure.interval is None:
        return mean
    ends = f"[{100 * sure.interval.low:.1f}, {100 * sure.interval.high:.1f}]"
    return rf"{mean} {{\scriptsize {ends}}}"
