"""Writes SVG: elements, scales, axes, markers. Colours are classes of `style.css`, light and dark."""

import html
import math
from collections.abc import Callable, Sequence

from peftbench.system import escape

#: All pictures are drawn this wide, which fits a telephone; on wider screens several stand side by side.
WIDTH = 360

Scale = Callable[[float], float]


def element(name: str, *children: str, **attributes: object) -> str:
    """An element; `_` in an attribute's name is written `-`, `class_` is `class`, and None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(children)
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else html.escape(escape.line(value))


def text(words: object, x: float, y: float, **attributes: object) -> str:
    """A text that begins (or ends, or has its middle, by `text_anchor`) at a point."""
    return element("text", html.escape(escape.line(words)), x=x, y=y, **attributes)


def title(words: object) -> str:
    """The text that a pointer shows on an element."""
    return element("title", html.escape(escape.line(words)))


def picture(height: float, label: str, *children: str, width: int = WIDTH, **attributes: object) -> str:
    """A whole picture; `label` is what a screen reader says of it."""
    box = f"0 0 {width} {height:.0f}"
    return element("svg", *children, viewBox=box, role="img", aria_label=label, **attributes)


def short(words: str, width: int) -> str:
    """A text of at most so many characters: its begin and its end, which is where variants differ."""
    written, end = escape.line(words), width // 3
    return written if len(written) <= width else f"{written[: width - 1 - end]}…{written[-end:]}"


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """The scale from values to points; values that are all the same lie in the middle."""
    if high <= low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """The scale as `linear` has it, of positive values, by their logarithms."""
    inner = linear(math.log(low), math.log(high), start, end)
    return lambda value: inner(math.log(value))


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values from `low` to `high`, at most so many."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten within the range; where there are fewer than two, 1, 2 and 5 times these."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        values = [factor * 10.0**power for power in powers for factor in factors]
        inside = [value for value in values if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
        if len(inside) > 1:
            return inside[:: math.ceil(len(inside) / 5)]
    return ticks(low, high, 3)


def brief(number: float) -> str:
    """A number in few characters: 12k, 1.5M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def marker(kind: int, x: float, y: float, size: float = 4) -> str:
    """A family's mark: its shape tells it as well as its colour."""
    shapes = {
        1: f"M{-size} {-size}h{2 * size}v{2 * size}h{-2 * size}z",
        2: f"M0 {-1.2 * size:.1f}L{1.2 * size:.1f} {size}H{-1.2 * size:.1f}z",
        3: f"M0 {-1.3 * size:.1f}L{1.3 * size:.1f} 0L0 {1.3 * size:.1f}L{-1.3 * size:.1f} 0z",
        4: f"M0 {1.2 * size:.1f}L{1.2 * size:.1f} {-size}H{-1.2 * size:.1f}z",
        5: f"M-1.5 {-size}h3v{size - 1.5}h{size - 1.5}v3h{1.5 - size}v{size - 1.5}h-3v{1.5 - size}h{1.5 - size}v-3"
        f"h{size - 1.5}z",
    }
    where = f"translate({x:.1f} {y:.1f})"
    cls = f"mark f{kind % 8}"
    if kind % 8 in shapes:
        return element("path", d=shapes[kind % 8], transform=where, class_=cls)
    return element("circle", r=size, transform=where, class_=cls)


def path(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """A line through points."""
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), **attributes)
