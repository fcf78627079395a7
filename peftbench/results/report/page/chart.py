"""Draws values beside each other: a printed figure and ours, or what was said and what was measured."""

import math
from collections.abc import Iterator, Sequence

from peftbench.results.report.page import svg
from peftbench.results.report.page.document import Axis, Chart, Ends, Mark, MarkedAxis

#: Where the axis begins and ends; heights of its ticks, of a heading, of a mark, and between two headings.
_LEFT, _RIGHT = 64, 214
_HEAD, _HEADING, _STEP, _GAP = 30, 17, 15, 9
#: Room beside the outermost values, as a share of their range.
_MARGIN = 0.06
#: Characters of a heading beside a verdict, and alone.
_BESIDE, _ALONE = 38, 58


def picture(chart: Chart) -> str:
    """The whole picture: its axes, one below the other."""
    drawn, top = [], 0.0
    for axis in chart.axes:
        drawn.append(_axis(axis, top))
        top += _height(axis) + _GAP
    return svg.picture(top, f"{chart.caption}; the text beside it has the numbers", *drawn, class_="chart")


def _height(axis: Axis) -> float:
    return _HEAD + sum(_tall(one) for one in axis.compared)


def _tall(one: MarkedAxis) -> float:
    return _HEADING + _STEP * len(one.marks) + _GAP


def _axis(axis: Axis, top: float) -> str:
    low, high = _range(axis)
    x = svg.linear(low, high, _LEFT, _RIGHT)
    parts = [svg.text(svg.short(axis.unit, 40), svg.WIDTH - 2, 10, text_anchor="end", class_="label")]
    for tick in svg.ticks(low, high, 3):
        at = x(tick)
        parts.append(svg.element("path", d=f"M{at:.1f} {_HEAD - 6}V{_height(axis) - _GAP:.1f}", class_="rule"))
        parts.append(svg.text(f"{tick:.4g}", at, _HEAD - 10, text_anchor="middle", class_="tick"))
    below = float(_HEAD)
    for one in axis.compared:
        parts.append(_compared(one, x, below))
        below += _tall(one)
    return svg.element("g", *parts, transform=f"translate(0 {top:.1f})")


def _range(axis: Axis) -> Ends:
    """The ends of an axis: the lowest and the highest finite number, with some room."""
    numbers = [number for one in axis.compared for number in _numbers(one) if math.isfinite(number)]
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    room = _MARGIN * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def _numbers(one: MarkedAxis) -> Iterator[float]:
    yield from one.band or ()
    for mark in one.marks:
        yield from mark.interval or ()
        if mark.value is not None:
            yield mark.value


def _compared(one: MarkedAxis, x: svg.Scale, top: float) -> str:
    heading = svg.short(one.heading, _BESIDE if one.verdict else _ALONE)
    parts = [svg.title(f"{one.heading}: {one.verdict}" if one.verdict else one.heading)]
    if one.band is not None:
        low, high = (_on(x, end) for end in one.band)
        height = _STEP * len(one.marks)
        parts.append(svg.element("rect", x=low, y=_HEADING, width=max(1.0, high - low), height=height, class_="band"))
    parts.append(svg.text(heading, 2, 12, class_="name"))
    if one.verdict:
        parts.append(svg.text(one.verdict, svg.WIDTH - 2, 12, text_anchor="end", class_="verdict"))
    parts += _marks(one.marks, x)
    return svg.element("g", *parts, transform=f"translate(0 {top:.1f})", class_="row")


def _marks(marks: Sequence[Mark], x: svg.Scale) -> Iterator[str]:
    for number, mark in enumerate(marks):
        middle = _HEADING + _STEP * number + _STEP / 2
        yield svg.text(svg.short(mark.label, 12), 8, middle + 3.5, class_="label")
        if mark.interval is not None:
            low, high = (_on(x, end) for end in mark.interval)
            yield svg.element("path", d=f"M{low:.1f} {middle}H{high:.1f}", class_="interval")
        if mark.value is not None:
            yield svg.marker(int(mark.printed), x(mark.value), middle)
        yield svg.text(svg.short(mark.text, 26), svg.WIDTH - 2, middle + 3.5, text_anchor="end", class_="value")


def _on(x: svg.Scale, number: float) -> float:
    """A number's place; infinity's is the end of the axis."""
    return x(number) if math.isfinite(number) else float(_RIGHT if number > 0 else _LEFT)
