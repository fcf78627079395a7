"""Draws scores against costs, with the front: the rows than which none is both cheaper and better."""

from collections.abc import Sequence
from dataclasses import dataclass

from peftbench.results.report.page import svg
from peftbench.results.report.page.costs import Cost, spoilt, text, value
from peftbench.results.report.page.document import Document, PagePanel, PageRow

#: Where a name may stand, best first: left (-1) or right (1) of its point, and how much lower. Neither the front's
#: line nor a point of it can be above on the left, or below on the right.
SPOTS = ((-1, -4), (1, 14), (1, -4), (-1, 14))
#: How far a name is from its point; the width of its characters, and its height; half a marker.
ASIDE, LETTER, TALL, HALF = 8, 6, 11, 5
_HEIGHT, _TOP, BOTTOM, LEFT, RIGHT = 236, 16, 196, 36, 346


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
    x = svg.logarithmic(min(costs), max(costs), LEFT + 10, RIGHT - 12)
    y = svg.linear(min(scores), max(scores), BOTTOM - 18, _TOP + 8)
    places = [(round(x(number), 1), round(y(score), 1)) for number, score, _ in points]  # As the script reads them.
    best = front(places)
    at = list(zip(places, points, strict=True))
    names = {place: svg.short(row.name, 18) for place, (_, _, row) in reversed(at)}  # Of rows at one place the first's.
    where = dict(zip(best, spots([(*place, names[place]) for place in best]), strict=True))
    marks = [
        _point(document, point, place, where.pop(place, None), cost)
        # Those of the front last, so that they lie on top, of these each over the name of the one before.
        for place, point in sorted(at, key=lambda pair: (pair[0] in best, pair[0]))
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


def spots(best: Sequence[tuple[float, float, str]]) -> list[tuple[int, int]]:
    """Chooses where the names of the front's points stand: where there is room they meet no other point of it and no
    name before."""
    taken = [(x - HALF, y - HALF, x + HALF, y + HALF) for x, y, _ in best]
    chosen = []
    for x, y, name in best:
        boxes = {spot: box(x, y, name, spot) for spot in SPOTS}
        inside = [s for s, box in boxes.items() if box[0] >= LEFT and box[2] <= svg.WIDTH and box[3] <= BOTTOM]
        free = [spot for spot in inside if not any(meet(boxes[spot], other) for other in taken)]
        spot = (*free, *inside, SPOTS[0])[0]
        chosen.append(spot)
        taken.append(boxes[spot])
    return chosen


def box(x: float, y: float, name: str, spot: tuple[int, int]) -> tuple[float, float, float, float]:
    """The left, upper, right and lower end of a name that stands at a spot."""
    side, lower = spot
    ends = sorted((x + side * ASIDE, x + side * (ASIDE + LETTER * len(name))))
    return ends[0], y + lower - TALL, ends[1], y + lower


def meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Says whether two boxes have a place in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def stairs(best: Sequence[tuple[float, float]]) -> str:
    """The front's line: what a cost buys stays the same until the next point."""
    first, *rest = best
    return f"M{first[0]:.1f} {first[1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in rest) + f"H{RIGHT}"


@dataclass(frozen=True)
class Frame:
    """The places of a picture's axes: its ground, left and right end; `factor`: from a value to what is written."""

    bottom: int = BOTTOM
    left: int = LEFT
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
    spot: tuple[int, int] | None,
    cost: Cost,
) -> str:
    """A row's marker with its name, which is shown on the front. `spot`: None where it isn't on it."""
    number, score, row = point
    x, y = place
    side, lower = spot or SPOTS[0]
    return svg.element(
        "g",
        svg.title(f"{row.name}: {100 * score:.1f}, {text(cost, number)} ({cost.name})"),
        svg.marker(document.families.index(row.family), x, y, 4.5),
        svg.text(
            svg.short(row.name, 18),
            x + side * ASIDE,
            y + lower,
            text_anchor="end" if side < 0 else "start",
            class_="name",
        ),
        data_row=row.id,
        data_at=f"{x:.1f} {y:.1f}",
        class_="point" if spot is None else "point on",
    )
