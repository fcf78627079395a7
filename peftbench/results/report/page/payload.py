"""What the page's script reads: the document as JSON that can't end the element it stands in."""

import json
from collections.abc import Sequence
from typing import Any

from peftbench.results.report.page import costs, forest, pareto, svg, words
from peftbench.results.report.page.document import Cell, Classes, Document, MeanWithInterval, PageRow
from peftbench.results.report.page.table import TableColumn
from peftbench.system import escape


def payload(document: Document, heads: Sequence[TableColumn]) -> str:
    """The JSON text."""
    value = {
        "columns": [
            {
                **{"id": head.id, "title": head.title, "shown": head.shown, "text": head.text},
                **({} if head.data is None else {"data": head.data, "metrics": head.metrics}),
            }
            for head in heads
        ],
        "rows": [_row(row) for row in document.rows],
        "first": words.FIRST,
        "budgets": [cost.id for cost in costs.BUDGETS],
        **{"top": forest.TOP, "step": forest.STEP, "width": svg.WIDTH, "right": pareto.RIGHT},
        **{"left": pareto.LEFT, "bottom": pareto.BOTTOM, "spots": pareto.SPOTS, "aside": pareto.ASIDE},
        **{"letter": pareto.LETTER, "tall": pareto.TALL, "half": pareto.HALF},
    }
    text = json.dumps(_safe(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _safe(value: Any) -> Any:
    """The value with its texts written as in the page's own (`escape.line`)."""
    if isinstance(value, dict):
        return {escape.line(key): _safe(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_safe(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return escape.line(value) if isinstance(value, str) else value


def _row(row: PageRow) -> dict[str, Any]:
    figures = {cost.id: number for cost in costs.COSTS if (number := costs.value(cost, row.figures)) is not None}
    return {
        **{"id": row.id, "name": row.name, "method": row.method, "variant": row.variant, "model": row.model},
        **({"study": row.study} if row.study else {}),
        **{"family": row.family, "busy": [c.id for c in costs.COSTS if costs.spoilt(c, row.busy)], "costs": figures},
        "cells": {column: _cell(cell) for column, cell in row.cells.items()},
    }


def _estimate(estimate: MeanWithInterval) -> list[float]:
    return [estimate.mean, *(estimate.interval or ())]


def _cell(cell: Cell) -> dict[str, Any]:
    return {
        "score": _estimate(cell.score),
        "basis": cell.basis,
        "few": cell.few_seeds,
        "same": cell.same_examples,
        "tied": cell.tied,
        "metrics": {name: _estimate(metric) for name, metric in cell.metrics.items()},
        "gap": None if cell.gap is None else _estimate(cell.gap),
        "warnings": cell.warnings,
        "notes": cell.notes,
        "runs": [[run.seed, run.score, run.step, run.key, run.selection, run.last] for run in cell.runs],
        "settings": cell.settings,
        "command": cell.command,
        **({} if cell.classes is None else {"classes": _classes(cell.classes)}),
    }


def _classes(classes: Classes) -> dict[str, Any]:
    return {
        "classes": [[one.label, one.precision, one.recall, one.f1, one.n] for one in classes.classes],
        "confusion": classes.confusion,
    }
