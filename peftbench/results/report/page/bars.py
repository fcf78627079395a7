"""Draws bars, each the sum of its parts: memory at the peak, estimated and measured."""

from collections.abc import Mapping

from peftbench.results.report.estimated import NAMES
from peftbench.results.report.page import svg
from peftbench.results.report.page.document import Bars

#: The legend's columns and the height of its lines; heights of a bar with its name, and of the bar.
_ACROSS, _LINE, _STEP, _BAR = 3, 16, 36, 14
_RIGHT = 290


def name(part: str) -> str:
    """A part as readers call it."""
    return NAMES.get(part, part.replace("_", " "))


def parts(bars: Bars) -> list[str]:
    """The parts that any bar has, in the table's order."""
    every = dict.fromkeys([*NAMES, *(part for _, sizes in bars.bars for part in sizes)])
    return [part for part in every if any(sizes.get(part) for _, sizes in bars.bars)]


def picture(bars: Bars) -> str:
    """The whole picture, with a legend above the bars."""
    shown = parts(bars)
    top = _LINE * -(-len(shown) // _ACROSS) + 8
    most = max((sum(sizes.values()) for _, sizes in bars.bars), default=1) or 1
    drawn = [_key(part, place) for place, part in enumerate(shown)]
    drawn += [
        _bar(title, sizes, shown, top + _STEP * row, _RIGHT / most) for row, (title, sizes) in enumerate(bars.bars)
    ]
    label = f"{bars.caption}: a bar for each of {len(bars.bars)}, by part; the table has the numbers"
    return svg.picture(top + _STEP * len(bars.bars) + 4, label, *drawn, class_="bars")


def _key(part: str, place: int) -> str:
    x, y = 2 + (svg.WIDTH // _ACROSS) * (place % _ACROSS), _LINE * (place // _ACROSS) + 2
    square = svg.element("rect", x=x, y=y, width=11, height=11, class_=f"part f{place % 8}")
    return square + svg.text(name(part), x + 16, y + 10, class_="label")


def _bar(title: str, sizes: Mapping[str, float], shown: list[str], top: float, scale: float) -> str:
    drawn, x = [svg.text(svg.short(title, 58), 2, top + 12, class_="name")], 2.0
    for place, part in enumerate(shown):
        width = sizes.get(part, 0) * scale
        words = svg.title(f"{title}: {name(part)} {sizes.get(part, 0) / 1e6:,.1f} MB")
        place_of = {"x": x, "y": top + 17, "width": width, "height": _BAR}
        drawn.append(svg.element("rect", words, **place_of, class_=f"part f{place % 8}"))
        x += width
    whole = svg.text(f"{sum(sizes.values()) / 1e6:,.1f} MB", x + 5, top + 28, class_="value")
    return svg.element("g", *drawn, whole)
