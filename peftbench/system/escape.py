"""Makes text that somebody else may have written safe to show: one function for each place that it is shown in."""

import html
import re

#: Control characters, the marks that turn the direction of writing, what breaks a line, what no encoding has, and tags.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)
#: Characters of a text that are shown, of one that is longer.
_LONGEST = 2000
#: What Markdown reads as the begin of a heading, a list, a quotation, a rule or a link's target.
_BEGIN = re.compile(r"(\d*)([#>+\-=~_\[:]|[.)](?!\S))")
#: What a spreadsheet reads as the begin of a formula.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def line(text: object) -> str:
    """A text for a terminal: one line, in which what would move the cursor or turn the text is written out."""
    written = str(text)
    if len(written) > _LONGEST:
        written = f"{written[:_LONGEST]}…"
    return written if written.isprintable() else _UNSAFE.sub(_written_out, written)  # Nearly all texts are.


def _written_out(match: re.Match[str]) -> str:
    return " " if match[0] in "\t\n\r" else match[0].encode("unicode_escape").decode("ascii")


def markdown(text: object) -> str:
    """A text for Markdown, within a line: shown as it is written."""
    return re.sub(r"[\\`*]|\](?=[(\[])", r"\\\g<0>", html.escape(line(text), quote=False))


def begin(text: object) -> str:
    """A text for Markdown, where a line or a list's entry begins."""
    written = markdown(text)
    match = _BEGIN.match(written)
    return written if match is None else f"{match[1]}\\{written[match.end(1) :]}"


def table_cell(text: object) -> str:
    """A text for a cell of a table in Markdown."""
    return markdown(text).replace("|", "\\|")


def code(text: object) -> str:
    """A text for Markdown, as code: between more backticks than are in it."""
    written = line(text)
    longest = max(map(len, re.findall("`+", written)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{written}{space}{fence}"


def markup(text: object) -> str:
    """A text for HTML in Markdown."""
    return html.escape(line(text))


def cell(text: object) -> str:
    """A text for a CSV file's cell: no spreadsheet takes it for a formula."""
    written = line(text)
    return f"'{written}" if written.lstrip().startswith(_FORMULA) else written
