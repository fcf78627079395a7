"""The page's main table: its columns, and the texts of its cells as they first stand there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from peftbench.results.report.page import costs, svg
from peftbench.results.report.page.document import Cell, Document, PageRow


@dataclass(frozen=True)
class TableColumn:
    """A column of the table. `data`: the data set whose scores it has; `text`: sorted from A to Z."""

    id: str
    title: str
    note: str = ""
    shown: bool = True
    text: bool = False
    data: str | None = None
    metrics: Sequence[str] = ()


def columns(document: Document) -> list[TableColumn]:
    """Names, scores, their mean where there are several data sets, costs that any row has."""
    shown_costs = [
        cost for cost in costs.COSTS if any(costs.value(cost, row.figures) is not None for row in document.rows)
    ]
    scores = [
        TableColumn(
            *(column.id, column.name, column.metrics),
            data=column.name,
            metrics=sorted({m for row in document.rows if (c := row.cells.get(column.id)) for m in c.metrics}),
        )
        for column in document.columns
    ]
    mean = [TableColumn("mean", "mean", "of the shown")] if len(scores) > 1 else []
    return [
        TableColumn("name", "method", text=True),
        TableColumn("model", "model", text=True, shown=len(document.models) > 1),
        TableColumn("family", "family", text=True, shown=False),
        *([TableColumn("study", "study", text=True)] if document.studies else []),
        *scores,
        *mean,
        *(TableColumn(cost.id, cost.name, shown=cost.shown) for cost in shown_costs),
    ]


def rows(document: Document) -> list[dict[str, Any]]:
    """A row's texts in the order of `columns`; the method's name stands apart."""
    heads = columns(document)[1:]
    families = document.families
    return [
        {
            "id": row.id,
            "method": row.method,
            "variant": row.variant,
            "mark": _mark(families.index(row.family)),
            "cells": [{"id": head.id, "title": head.title, "shown": head.shown, **_cell(row, head)} for head in heads],
        }
        for row in document.rows
    ]


def _mark(family: int) -> Markup:
    return Markup(svg.element("svg", svg.marker(family, 0, 0, 4.5), viewBox="-6 -6 12 12"))


def _cell(row: PageRow, head: TableColumn) -> dict[str, Any]:
    if head.data is not None:
        return _score(row.cells.get(head.id))
    if head.id == "mean":
        return {"text": "–" if row.mean is None else f"{100 * row.mean:.1f}", "class": "number"}
    if head.text:
        return {"text": getattr(row, head.id), "class": "text"}
    cost = next(cost for cost in costs.COSTS if cost.id == head.id)
    number = costs.value(cost, row.figures)
    busy = costs.spoilt(cost, row.busy) if number is not None else None
    return {"text": costs.text(cost, number), "class": "number busy" if busy else "number", "hint": busy}


def _score(cell: Cell | None) -> dict[str, Any]:
    if cell is None:
        return {"text": "–", "class": "number"}
    ends = cell.score.interval
    return {
        "text": f"{100 * cell.score.mean:.1f}",
        "small": " " if ends is None else f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]",
        "class": "number wide tied" if cell.tied else "number wide",
        "equal": cell.tied,
        "warned": bool(cell.warnings),
        "opens": True,
    }
