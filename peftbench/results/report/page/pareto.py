"""Draws scores against costs, with the front: the rows than which none is both cheaper and better."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from peftbench.results.report.page import svg
from peftbench.results.report.page.costs import Cost, spoilt, text, value
from peftbench.results.report.page.document import Document, PagePanel, PageRow

#: Points this near, across and up, have names that would meet.
NEAR = (90, 14)
#: How much lower a name stands that is below its point.
LOWER = 18
_HEIGHT, _TOP, _BOTTOM, _LEFT, RIGHT = 236, 16, 196, 36, 346


def panel(document: Document, one: PagePanel, cost: Cost) -> str | None:
    """The picture of one data set, model and cost; None where fewer than two rows have the cost. The script draws the
    front anew among the rows that are shown."""
    column = one.column
    points = [
        (number, row.cells[column.id].score.mean, row)
        for row in one.rows
        if (number := value(cost, row.cells[column.id].figures)) is not None
        and number > 0
        and spoilt(cost, row.cells[column.id].busy) is None
    ]
    if len(points) < 2:
        return None
    costs, scores = [point[0] for point in points], [point[1] for point in points]
    x = svg.logarithmic(min(costs), max(costs), _LEFT + 10, RIGHT - 12)
    y = svg.linear(min(scores), max(scores), _BOTTOM - 10, _TOP + 8)
    places = [(x(number), y(score)) for number, score, _ in points]
    best = front(places)
    below = lowered(best)
    marks = [
        _point(document, point, place, on_front=place in best, below=place in below, cost=cost)
        # Those of the front last, so that they lie on top, of these each over the name of the one before.
        for place, point in sorted(zip(places, points, strict=True), key=lambda pair: (pair[0] in best, pair[0]))
    ]
    return svg.picture(
        _HEIGHT,
        f"{one.name}: score against {cost.name}; the table has the numbers",
        axes(svg.log_ticks(min(costs), max(costs)), (min(scores), max(scores)), x, y, cost.name),
        svg.element("path", d=stairs(best), class_="front"),
        *marks,
        class_="pareto",
    )


def front(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of a picture (y downwards) left of which none lies higher or as high, from left to right."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not best or y < best[-1][1]:
            best.append((x, y))
    return best


def lowered(best: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of the front whose name stands below them: the one before is so near that the names would meet."""
    low: list[tuple[float, float]] = []
    for before, point in itertools.pairwise(best):
        if before not in low and point[0] - before[0] < NEAR[0] and before[1] - point[1] < NEAR[1]:
            low.append(point)
    return low


def stairs(best: Sequence[tuple[float, float]]) -> str:
    """The front's line: what a cost buys stays the same until the next point."""
    first, *rest = best
    return f"M{first[0]:.1f} {first[1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest) + f"H{RIGHT}"


@dataclass(frozen=True)
class Frame:
    """The places of a picture's axes: its ground, left and right end; `factor`: from a value to what is written."""

    bottom: int = _BOTTOM
    left: int = _LEFT
    right: int = RIGHT
    factor: float = 100


def axes(
    across: Sequence[float], up: tuple[float, float], x: svg.Scale, y: svg.Scale, name: str, frame: Frame | None = None
) -> str:
    """Both axes.

    Args:
        across: the marked values of the quantity.
        up: the lowest and highest score.
    """
    at, parts = frame or Frame(), []
    for tick in svg.ticks(at.factor * up[0], at.factor * up[1], 5):
        height = y(tick / at.factor)
        parts.append(svg.element("path", d=f"M{at.left} {height:.1f}H{at.right}", class_="rule"))
        parts.append(svg.text(f"{tick:.4g}", at.left - 5, height + 3.5, text_anchor="end", class_="tick"))
    for tick in across:
        place = x(tick)
        parts.append(svg.element("path", d=f"M{place:.1f} {at.bottom}v4", class_="rule"))
        parts.append(svg.text(svg.brief(tick), place, at.bottom + 15, text_anchor="middle", class_="tick"))
    parts.append(svg.element("path", d=f"M{at.left} {at.bottom}H{at.right}", class_="axis"))
    parts.append(svg.text(name, (at.left + at.right) / 2, at.bottom + 30, text_anchor="middle", class_="label"))
    return svg.element("g", *parts)


def _point(
    document: Document,
    point: tuple[float, float, PageRow],
    place: tuple[float, float],
    *,
    on_front: bool,
    below: bool,
    cost: Cost,
) -> str:
    number, score, row = point
    x, y = place
    left = x > (_LEFT + RIGHT) / 2  # The name stands where there is room for it.
    return svg.element(
        "g",
        svg.title(f"{row.name}: {100 * score:.1f}, {text(cost, number)} ({cost.name})"),
        svg.marker(document.families.index(row.family), x, y, 4.5),
        svg.text(
            svg.short(row.name, 18),
            x + (-8 if left else 8),
            y - 4 + (LOWER if below else 0),
            text_anchor="end" if left else None,
            class_="name",
        ),
        data_row=row.id,
        data_at=f"{x:.1f} {y:.1f}",
        class_="point on" if on_front else "point",
    )
