"""Pictures as files of their own, which Markdown can show: the page's own drawings, one below the other."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from peftbench.results.report.page import bars, chart, forest, pareto, svg
from peftbench.results.report.page.costs import COSTS
from peftbench.results.report.page.document import PICTURED, Bars, Chart, Document, PagePanel

#: Pictures beside each other, and the room of each.
_ACROSS, _GAP, _HEAD = 2, 24, 24

_Draw = Callable[[PagePanel], str | None]


def intervals(document: Document) -> str:
    """The forest plots of all data sets."""
    return _sheet(document, lambda panel: forest.panel(document, panel))


def costs(document: Document) -> str:
    """The scores of all data sets against trained parameters."""
    trained = next(cost for cost in COSTS if cost.id == "trained")
    return _sheet(document, lambda panel: pareto.panel(document, panel, trained))


def _sheet(document: Document, draw: _Draw) -> str:
    panels = []
    for panel in document.pictured:
        drawn = draw(panel)
        if drawn is not None:
            panels.append((panel.name, drawn))
    return sheet(panels)


def drawn(picture: Chart | Bars) -> str:
    """A picture as the page has it."""
    return chart.picture(picture) if isinstance(picture, Chart) else bars.picture(picture)


def pictures(some: Sequence[Chart | Bars]) -> str:
    """Pictures of the page's parts as one file; "" without any, which is no file."""
    return sheet([(one.caption, drawn(one)) for one in some[:PICTURED]]) if some else ""


def sheet(panels: Sequence[tuple[str, str]]) -> str:
    """Pictures under headings, as one file."""
    parts, top = [], _GAP
    for start in range(0, len(panels), _ACROSS):
        line = panels[start : start + _ACROSS]
        for place, (heading, drawn) in enumerate(line):
            left = _GAP + place * (svg.WIDTH + _GAP)
            parts.append(svg.text(svg.short(heading, 48), left, top + 12, class_="heading"))
            parts.append(_placed(drawn, left, top + _HEAD))
        top += _HEAD + max(_height(drawn) for _, drawn in line) + _GAP
    if not panels:
        parts, top = [svg.text("No completed runs yet.", _GAP, top + 12)], top + _GAP
    width = _GAP + (min(_ACROSS, len(panels)) or 1) * (svg.WIDTH + _GAP)
    ground = svg.element("rect", width=width, height=top, class_="ground")
    style = svg.element("style", _style())
    return (
        svg.element(
            "svg",
            *(style, ground, *parts),
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {top}",
            width=width,
            height=top,
        )
        + "\n"
    )


def _height(drawn: str) -> int:
    match = re.search(r'viewBox="0 0 \d+ (\d+)"', drawn)
    assert match is not None
    return int(match[1])


def _placed(drawn: str, left: float, top: float) -> str:
    """A picture at a place within another."""
    return drawn.replace("<svg ", f'<svg x="{left}" y="{top}" width="{svg.WIDTH}" height="{_height(drawn)}" ', 1)


@functools.cache
def _style() -> str:
    """The page's rules for pictures with the colours put in, dark ones where the reader's screen is dark: a picture's
    viewer needn't know variables."""
    here = Path(__file__).parent
    rules = (here / "picture.css").read_text(encoding="utf-8")
    rules += ".heading{font-size:13px;font-weight:600}\n.ground{fill:var(--ground)}\n"
    colours = re.findall(r"--(\w+):light-dark\((#\w+),(#\w+)\)", (here / "style.css").read_text(encoding="utf-8"))
    families = {f"f{number}" for number in range(8)}
    light, dark = ({name: pair[shade] for name, *pair in colours} for shade in (0, 1))
    return (
        f"{_resolved(rules, light, families)}@media (prefers-color-scheme:dark){{{_resolved(rules, dark, families)}}}"
    )


def _resolved(rules: str, colours: dict[str, str], families: set[str]) -> str:
    """The rules with every variable's value; rules that use a family's colour, once a family."""
    written = []
    for rule in re.findall(r"[^{}]+\{[^{}]*\}", rules):
        selector, body = rule.strip().removesuffix("}").split("{")
        if body.startswith("--c:"):
            continue
        if "var(--c)" not in body:
            written.append(f"{selector}{{{_put(body, colours)}}}")
            continue
        for family in sorted(families):
            own = body.replace("var(--c)", colours[f"c{family[1:]}"])
            selectors = ",".join(f"{one}.{family}" for one in selector.split(","))
            written.append(f"{selectors}{{{_put(own, colours)}}}")
    return "".join(written)


def _put(body: str, colours: dict[str, str]) -> str:
    return re.sub(r"var\(--(\w+)\)", lambda match: colours[match[1]], body)
