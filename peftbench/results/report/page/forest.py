"""Draws scores with their intervals, best first: a forest plot of every data set and model."""

from collections.abc import Sequence

from peftbench.results.report.page import svg
from peftbench.results.report.page.document import Column, Document, MeanWithInterval, PagePanel, PageRow

#: Height of a row, of the axis above the rows, and where the rows' lines begin and end.
STEP, TOP = 22, 26
_LEFT, _RIGHT = 126, 250
#: Height of a note below the rows.
_NOTE = 14


def panel(document: Document, one: PagePanel) -> str:
    """The picture of one data set and model. The script moves the rows together where some are hidden."""
    column, rows = one.column, one.rows
    scores = [row.cells[column.id].score for row in rows]
    low, high = _range(scores)
    x = svg.linear(low, high, _LEFT, _RIGHT)
    body = [_row(document, column, row, x, number) for number, row in enumerate(rows)]
    end = TOP + STEP * len(rows) + 4
    alone = any(row.cells[column.id].seeds_alone for row in rows)
    note = [svg.text("intervals of other seeds alone, too narrow for other examples", 2, end + 10, class_="tick")]
    return svg.picture(
        end + _NOTE * alone,
        f"{one.name}: scores with 95 % intervals, best first; the table has the numbers",
        _band(rows[0].cells[column.id].score, x, len(rows)),
        _axis(low, high, x, len(rows)),
        *body,
        *(note if alone else []),
        class_="forest",
    )


def _range(scores: Sequence[MeanWithInterval]) -> tuple[float, float]:
    """The axis: from the lowest to the highest end, but no further down than twice the way from the best to the lower
    quartile. One row at chance would press all others together; it gets an arrow."""
    means = sorted(score.mean for score in scores)
    ends = [end for score in scores for end in (*(score.interval or ()), score.mean)]
    best, quartile = means[-1], means[len(means) // 4]
    return max(min(ends), quartile - 2 * (best - quartile) if best > quartile else min(ends)), max(ends)


def _band(best: MeanWithInterval, x: svg.Scale, rows: int) -> str:
    """The best row's interval behind all rows."""
    if best.interval is None:
        return ""
    low, high = (max(_LEFT, x(end)) for end in best.interval)
    return svg.element("rect", x=low, y=TOP - 2, width=high - low, height=STEP * rows + 4, class_="band")


def _axis(low: float, high: float, x: svg.Scale, rows: int) -> str:
    parts = []
    for tick in svg.ticks(100 * low, 100 * high, 3):
        at = x(tick / 100)
        parts.append(svg.element("path", d=f"M{at:.1f} {TOP - 4}V{TOP + STEP * rows}", class_="rule"))
        parts.append(svg.text(f"{tick:.4g}", at, TOP - 10, text_anchor="middle", class_="tick"))
    return svg.element("g", *parts)


def _row(document: Document, column: Column, row: PageRow, x: svg.Scale, number: int) -> str:
    cell = row.cells[column.id]
    middle, at = STEP / 2, x(cell.score.mean)
    line, words = "", f"{100 * cell.score.mean:.1f}"
    if cell.score.interval is not None:
        low, high = cell.score.interval
        line = svg.element("path", d=f"M{max(_LEFT, x(low)):.1f} {middle}H{max(_LEFT, x(high)):.1f}", class_="interval")
        words += f" [{100 * low:.1f}, {100 * high:.1f}]"
    state = {True: " tied", False: " apart", None: ""}[cell.tied]
    return svg.element(
        "g",
        svg.title(f"{row.name}: {words}"),
        svg.text(svg.short(row.name, 18), _LEFT - 8, middle + 4, text_anchor="end", class_="name"),
        line,
        svg.marker(document.families.index(row.family), at, middle) if at >= _LEFT - 1 else _arrow(middle),
        svg.text(words, svg.WIDTH - 2, middle + 4, text_anchor="end", class_="value"),
        data_row=row.id,
        transform=f"translate(0 {TOP + STEP * number})",
        class_=f"row{state}",
    )


def _arrow(middle: float) -> str:
    """Stands for a row that lies left of the axis."""
    return svg.element("path", d=f"M{_LEFT + 5} {middle - 4}l-6 4l6 4", class_="interval")
