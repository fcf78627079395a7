"""Renders a `Document` as one file of HTML, whose policy lets the browser load nothing and run no other script."""

import base64
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, Template
from markupsafe import Markup

from peftbench.results.report import prompts
from peftbench.results.report.page import costs, forest, lines, pareto, standalone, svg, table, words
from peftbench.results.report.page.costs import BUDGETS, COSTS
from peftbench.results.report.page.document import PICTURED, Column, Document, Matrix, Section
from peftbench.results.report.page.payload import payload
from peftbench.system import escape

_HERE = Path(__file__).parent


def render(document: Document) -> str:
    """The page; the same text for the same document."""
    style, script = _file("style.css") + _file("picture.css"), _file("page.js")
    pictures = _pictures(document)
    return _template().render(
        document=document,
        policy=policy(script, style),
        style=Markup(style),
        script=Markup(script),
        data=Markup(payload(document, table.columns(document))),
        title=_title(document),
        answers=words.answers(document),
        first=words.FIRST,
        intervals=all(cell.score.interval for row in document.rows for cell in row.cells.values()),
        seeds_alone=any(cell.seeds_alone for row in document.rows for cell in row.cells.values()),
        marks={
            "warned": any(cell.warnings for row in document.rows for cell in row.cells.values()),
            "busy": any(costs.spoilt(cost, row.busy) for row in document.rows for cost in COSTS),
        },
        metrics=sorted({name for row in document.rows for cell in row.cells.values() for name in cell.metrics}),
        budgets=BUDGETS,
        table=table.columns(document),
        rows=table.rows(document),
        pictures=pictures,
        choices=[cost for cost in COSTS if cost.id in {figure["cost"] for figure in pictures["pareto"]}],
        legend=[{"name": name, "svg": Markup(_mark(number))} for number, name in enumerate(document.families)],
        matrices=[_matrix(matrix) for matrix in document.matrices[:PICTURED]],
        sections=[_section(section) for section in document.sections],
        undrawn=len(document.panels) - len(document.pictured),
        prompts_note=prompts.NOTE,
    )


def policy(script: str, style: str) -> str:
    """The Content-Security-Policy: this very script and this very style by their hashes, and nothing from anywhere."""
    return (
        f"default-src 'none'; script-src 'sha256-{_hash(script)}'; style-src 'sha256-{_hash(style)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@functools.cache
def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return environment.from_string(_file("template.html"))


def _shown(value: Any) -> Any:
    """Texts as a terminal would get them too: without what moves a cursor or turns the writing, and not endless."""
    return escape.line(value) if type(value) is str else value


def _title(document: Document) -> str:
    def few(names: Sequence[str]) -> str:
        return ", ".join(map(words.short, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

    if not document.rows:
        return "no completed runs"
    methods = len({row.method for row in document.rows})
    runs = sum(len(cell.runs) for row in document.rows for cell in row.cells.values())
    return (
        f"{methods} method{'s' if methods != 1 else ''} on {few([column.name for column in document.columns])} with "
        f"{few(document.models)}, {runs} runs"
    )


def _figure(
    column: Column, model: str, drawn: str, *, caption: str, cost: str = "", row: str = "", panel: str = ""
) -> dict[str, Any]:
    names = {"model": model, "cost": cost, "row": row, "caption": caption, "panel": panel}
    return {"column": column, "svg": Markup(drawn), **names}


def _pictures(document: Document) -> dict[str, list[dict[str, Any]]]:
    """The pictures by kind, in the order of the page."""
    figures: dict[str, list[dict[str, Any]]] = {"forest": [], "pareto": [], "sweeps": [], "curves": []}
    by_id = {column.id: column for column in document.columns}
    for panel in document.pictured:
        column, where = panel.column, panel.name
        figures["forest"].append(_figure(column, panel.model, forest.panel(document, panel), caption=where))
        for cost in (cost for cost in COSTS if cost.picture):
            drawn = pareto.panel(document, panel, cost)
            if drawn is not None:
                caption = f"{where}, by {cost.name}"
                figures["pareto"].append(_figure(column, panel.model, drawn, caption=caption, cost=cost.id))
        for row, drawn in lines.curves(document, panel):
            figures["curves"].append(_figure(column, panel.model, drawn, caption=row.name, row=row.id, panel=where))
    for one in document.sweeps[:PICTURED]:
        column = by_id[one.column]
        figures["sweeps"].append(
            _figure(column, "", lines.sweep(one, column), caption=f"{column.name}, by {one.setting}")
        )
    return figures


def _section(section: Section) -> dict[str, Any]:
    """A part of the page, with its pictures drawn."""
    drawn = [{"caption": one.caption, "svg": Markup(standalone.drawn(one))} for one in section.pictures[:PICTURED]]
    return {"part": section, "pictures": drawn}


def _mark(family: int) -> str:
    return svg.element("svg", svg.marker(family, 0, 0, 4.5), viewBox="-6 -6 12 12", aria_hidden="true")


def _matrix(matrix: Matrix) -> dict[str, Any]:
    return {
        "column": matrix.column,
        "model": matrix.model,
        "caption": f"{matrix.name}: P(row is better than column), %",
        "rows": [
            {
                "id": row.id,
                "name": row.name,
                "cells": [
                    {"of": other.id, "text": "·", "level": 3}
                    if other is row
                    else {"of": other.id, "text": f"{100 * p:.0f}", "level": _level(p)}
                    for other, p in zip(matrix.rows, values, strict=True)
                ],
            }
            for row, values in zip(matrix.rows, matrix.values, strict=True)
        ],
    }


def _level(probability: float) -> int:
    """A colour, 0 (surely worse) to 6 (surely better)."""
    return sum(probability > limit for limit in (0.025, 0.05, 0.25, 0.75, 0.95, 0.975))
