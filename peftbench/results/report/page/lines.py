"""Draws scores by a setting that a sweep varied, and by the steps of training."""

from collections.abc import Sequence
from dataclasses import replace

from peftbench.results.report.page import svg
from peftbench.results.report.page.document import Column, CurveBand, Document, PagePanel, PageRow, SettingCurves
from peftbench.results.report.page.pareto import Frame, axes

_HEIGHT, _TOP, _BOTTOM, _LEFT, _RIGHT = 236, 16, 196, 36, 346
#: Curves are small: a row of them is compared at a glance.
_SMALL = Frame(bottom=96, left=28, right=194)


def sweep(one: SettingCurves, column: Column) -> str:
    """Scores on a data set by the values of a setting, a line a series, with intervals."""
    at = [value for series in one.series for value in series.at]
    ends = [end for s in one.series for score in s.scores for end in (*(score.interval or ()), score.mean)]
    log = min(at) > 0 and max(at) >= 8 * min(at)
    scale = svg.logarithmic if log else svg.linear
    x = scale(min(at), max(at), _LEFT + 14, _RIGHT - 14)
    y = svg.linear(min(ends), max(ends), _BOTTOM - 8, _TOP + 8)
    body = []
    for number, series in enumerate(one.series):
        parts = [svg.title(series.name)]
        for value, score in zip(series.at, series.scores, strict=True):
            if score.interval is not None:
                low, high = map(y, score.interval)
                parts.append(svg.element("path", d=f"M{x(value):.1f} {low:.1f}V{high:.1f}", class_="interval"))
            parts.append(svg.marker(number, x(value), y(score.mean), 3.5))
        points = [(x(value), y(score.mean)) for value, score in zip(series.at, series.scores, strict=True)]
        parts.append(svg.path(points, class_=f"line f{number % 8}"))
        end, high = points[-1]
        parts.append(svg.text(svg.short(series.name, 24), end, high - 7, text_anchor="end", class_="name"))
        body.append(svg.element("g", *parts, data_rows=" ".join(series.rows), class_="series"))
    label = f"{column.name}: score by {one.setting}, a line for each of {len(one.series)} methods"
    ground = axes(_marked(at), (min(ends), max(ends)), x, y, one.setting)
    return svg.picture(_HEIGHT, label, ground, *body, class_="sweep")


def _marked(values: Sequence[float]) -> list[float]:
    """The values that runs had, at most six of them."""
    different = sorted(set(values))
    return different[:: -(-len(different) // 6)]


def curves(document: Document, panel: PagePanel) -> list[tuple[PageRow, str]]:
    """A picture for every row that has a learning curve, all scores of a panel to the same scale, and all losses."""
    column = panel.column
    drawn = [(row, curve) for row in panel.rows if (curve := row.cells[column.id].curve) is not None]
    if not drawn:
        return []
    across = (0.0, max(float(curve.steps[-1]) for _, curve in drawn))
    up = {
        kind: (min(min(curve.low) for curve in those), max(max(curve.high) for curve in those))
        for kind in (True, False)
        if (those := [curve for _, curve in drawn if curve.of_loss == kind])
    }
    return [(row, _curve(document, column, row, curve, across, up[curve.of_loss])) for row, curve in drawn]


def _curve(
    document: Document,
    column: Column,
    row: PageRow,
    curve: CurveBand,
    across: tuple[float, float],
    up: tuple[float, float],
) -> str:
    x = svg.linear(*across, _SMALL.left, _SMALL.right - 4)
    y = svg.linear(*up, _SMALL.bottom - 4, 8)
    forth = [(x(step), y(value)) for step, value in zip(curve.steps, curve.high, strict=True)]
    back = [(x(step), y(value)) for step, value in zip(curve.steps, curve.low, strict=True)]
    family = document.families.index(row.family) % 8
    what, factor, digits = ("training loss", 1, 2) if curve.of_loss else ("selection score", 100, 1)
    first, last = (f"{factor * value:.{digits}f}" for value in (curve.mean[0], curve.mean[-1]))
    return svg.picture(
        _SMALL.bottom + 36,
        f"{row.name} on {column.name}: {what} from step {curve.steps[0]} ({first}) to step {curve.steps[-1]} ({last})",
        axes(svg.ticks(*across, 3), up, x, y, f"{what} by optimiser step", replace(_SMALL, factor=factor)),
        svg.path([*forth, *reversed(back)], class_=f"area f{family}"),
        svg.path(
            [(x(step), y(value)) for step, value in zip(curve.steps, curve.mean, strict=True)],
            class_=f"line f{family}",
        ),
        class_="curve",
        width=_SMALL.right + 6,
    )
