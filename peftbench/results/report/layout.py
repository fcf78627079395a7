"""Tables in Markdown that line up as plain text too, and fit a page of 80 columns."""

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from peftbench.results.report.suites import RowName
from peftbench.system import escape

MISSING = "–"
#: Columns of a page of text.
WIDTH = 80
#: Characters that a row's name may have in a table; a longer one is told beside it.
_NAME = 32


def table(header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> str:
    """One table, as wide as it is; the first `left` columns to the left."""
    escaped = [[_cell(cell) for cell in line] for line in [header, *lines]]
    widths = [max(3, *(len(line[i]) for line in escaped)) for i in range(len(header))]

    def justify(i: int) -> Callable[[str], str]:
        return lambda text: text.ljust(widths[i]) if i < left else text.rjust(widths[i])

    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    rows = [[justify(i)(cell) for i, cell in enumerate(line)] for line in escaped]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def _cell(text: str) -> str:
    # A number with an asterisk is no markup, and reads better on a terminal without a backslash.
    return text if re.fullmatch(r"[\d,.+-]+\*", text) else escape.table_cell(text)


def tables(header: Sequence[str], lines: Sequence[Sequence[str]], *, left: int) -> str:
    """Tables of at most `WIDTH` columns, each with the first `left` columns: as many as it takes. A column that holds
    nothing is left out. One that is wider by itself stays as it is."""
    filled = [i for i in range(left, len(header)) if any(line[i] not in ("", MISSING) for line in lines)]
    parts = []
    for chosen in _fitting(header, lines, left, filled):
        columns = [*range(left), *chosen]
        parts.append(table([header[i] for i in columns], [[line[i] for i in columns] for line in lines], left=left))
    return "\n\n".join(parts)


def _fitting(
    header: Sequence[str], lines: Sequence[Sequence[str]], left: int, columns: Sequence[int]
) -> Iterator[list[int]]:
    """The columns in groups that fit beside the first ones."""
    widths = [max(3, *(len(_cell(line[i])) for line in [header, *lines])) + 3 for i in range(len(header))]
    room = WIDTH - 1 - sum(widths[:left])
    chosen: list[int] = []
    for column in columns:
        if chosen and sum(widths[i] for i in chosen) + widths[column] > room:
            yield chosen
            chosen = []
        chosen.append(column)
    if chosen:
        yield chosen


@dataclass(frozen=True)
class Names:
    """The names of rows in a table.

    Attributes:
        shared: settings that all rows have, said once.
        legend: of names that are too long for a table, the short one and the rest.
    """

    names: dict[RowName, str]
    shared: list[str]
    legend: list[str]


def names(rows: Sequence[RowName], numbered: Sequence[RowName] | None = None) -> Names:
    """Short names of rows: without what all share, and with a number for what is too long.

    Args:
        numbered: by their places in it rows are numbered, so that a number means the same in several tables; None: in
            `rows`.
    """
    places = {row: place for place, row in enumerate(rows if numbered is None else numbered, start=1)}
    settings = {row: [part for part in row[2].split(", ") if part] for row in rows}
    every = settings[rows[0]] if rows else []
    shared = [part for part in every if len(rows) > 1 and all(part in parts for parts in settings.values())]
    by_row: dict[RowName, str] = {}
    legend: list[str] = []
    for row in rows:
        rest = ", ".join(part for part in settings[row] if part not in shared)
        name = f"{row[0]} ({rest})" if rest else row[0]
        if len(name) > _NAME and rest:
            name = f"{row[0]} [{places[row]}]"
            legend.append(f"{name}: {rest}")
        by_row[row] = name
    return Names(by_row, shared, legend)


def without_one_model(header: Sequence[str], lines: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]], int]:
    """A table's header and lines, without the second column, the model, where it is the same in all lines; and how many
    columns now stand left of the figures."""
    if len({line[1] for line in lines}) > 1:
        return list(header), [list(line) for line in lines], 2
    return [header[0], *header[2:]], [[line[0], *line[2:]] for line in lines], 1


def by_model(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Tables of lines that begin with method and model."""
    header, lines, left = without_one_model(["method", "model", *columns], lines)
    return tables(header, lines, left=left)


def told(named: Names) -> list[str]:
    """Lines of Markdown for what names leave out."""
    lines = [f"All rows: {', '.join(named.shared)}."] if named.shared else []
    return [*map(paragraph, lines), *([bullets(named.legend)] if named.legend else [])]


def paragraph(text: str) -> str:
    """Text of anybody's as a paragraph of lines of at most `WIDTH` columns, where blanks allow it."""
    return "\n".join(_wrapped(escape.begin(text)))


def bullets(lines: Sequence[str]) -> str:
    """Lines of anybody's as a list."""
    return "\n".join("\n".join(_wrapped(f"- {escape.begin(line)}", "  ")) for line in lines)


def prose(text: str) -> str:
    """A note of ours in lines of `WIDTH` columns."""
    return textwrap.fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def _wrapped(text: str, indent: str = "") -> list[str]:
    # A word that begins a line mustn't begin a list or a heading there: shorter lines have other words begin.
    for width in range(WIDTH, WIDTH // 2, -1):
        lines = textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        if lines and all(escape.begin(line.strip()) == escape.markdown(line.strip()) for line in lines[1:]):
            return lines
    return [text]


def number(value: float | None, form: str, factor: float = 1.0) -> str:
    """A figure, or the mark of a missing one."""
    return MISSING if value is None else form.format(value * factor)
