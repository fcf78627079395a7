"""From a `Leaderboard` to the page's `Document`."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.results.report import forgetting, prompts, stats
from peftbench.results.report.load import flat
from peftbench.results.report.page import again, costs, curve, varied, words
from peftbench.results.report.page.document import Cell, Column, Curve, Document, Estimate, Folded, Row, Run, Table
from peftbench.results.report.stats import Leaderboard
from peftbench.results.store import ResultStore
from peftbench.system import fingerprint

#: Rows of a page, at most: a browser shows more than these, but nobody reads them. Files have them all.
_ROWS = 500


#: Caption, costs, and whether the gap between training and evaluation stands there too.
_COSTS = (
    ("Memory and storage", ("trained", "share", "adapter", "head", "weights", "memory", "stored"), False),
    ("Time, and over-fitting", ("time", "rate", "latency", "merged", "base"), True),
)


@functools.lru_cache(maxsize=1)  # The page and its pictures are files of one board.
def document(board: Leaderboard) -> Document:
    """All that the page shows of a leaderboard."""
    columns = [Column(_id("c", name), name, board.metrics.get(name, "")) for name in board.columns]
    settings = _settings(board)
    differing = _differing(list(settings.values()))
    rows = [_row(board, row, columns, settings, differing) for row in board.rows[:_ROWS]]
    shared = next(iter(settings.values()), {})
    by_id = {
        (_row_id(row), column.id): settings[_name(row), column.name]
        for row in board.rows[:_ROWS]
        for column in columns
        if (_name(row), column.name) in settings
    }
    page = Document(
        columns=columns,
        rows=rows,
        sweeps=varied.sweeps(columns, rows, by_id),
        tables=_tables(board, rows),
        failed=[_failure(record) for record in board.failed],
        not_applicable=board.not_applicable,
        unreadable=[f"{file}: {reason}" for file, reason in board.unreadable],
        doubtful=[f"{file}: {reason}" for file, reason in board.doubtful],
        machines=board.machines,
        footnotes=board.footnotes,
        soft_prompts=[Folded(title, prompts.lines(record)) for title, record in board.soft_prompts],
        shared={key: text for key, text in shared.items() if key not in differing and text != "None"},
        cut=max(0, len(board.rows) - _ROWS),
    )
    return replace(page, answers=words.answers(page))


def _id(kind: str, *names: str) -> str:
    """An element's id that stays the same when other rows come: links name it."""
    return kind + fingerprint.of_json(list(names))[:8]


def _name(row: stats.Row) -> tuple[str, str, str]:
    return row.method, row.model, row.variant


def _row_id(row: stats.Row) -> str:
    return _id("r", *_name(row))


def _settings(board: Leaderboard) -> dict[tuple[Any, str], dict[str, str]]:
    """By row and column the configuration of a cell's first run, flat, without the names of the cell and its seed."""
    return {
        cell: flat({key: value for key, value in runs[0].config.items() if key != "seed"})
        for cell, runs in board.runs.items()
    }


def _differing(settings: Sequence[Mapping[str, str]]) -> set[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for one in settings:
        for key, text in one.items():
            values[key].add(text)
    return {key for key, texts in values.items() if len(texts) > 1 or any(key not in one for one in settings)}


def _row(
    board: Leaderboard,
    row: stats.Row,
    columns: Sequence[Column],
    settings: Mapping[tuple[Any, str], Mapping[str, str]],
    differing: set[str],
) -> Row:
    cells = {}
    family = "other"
    for column in columns:
        runs = board.runs.get((_name(row), column.name))
        if runs:
            mine = {k: v for k, v in settings[_name(row), column.name].items() if k in differing and v != "None"}
            cells[column.id] = replace(_cell(runs, mine), curve=_curve(board, runs))
            family = str(runs[0].config["method"].get("family") or "other")
    return Row(
        id=_row_id(row),
        method=row.method,
        model=row.model,
        variant=row.variant,
        family=family,
        cells=cells,
        mean=row.mean,
        figures=row.figures,
    )


def _cell(runs: Sequence[RunRecord], settings: Mapping[str, str]) -> Cell:
    ordered = sorted(runs, key=lambda record: (record.config["seed"], record.key))
    figures = stats.figures(ordered)
    gap = figures.get("gap")
    return Cell(
        score=Estimate(_mean([record.score for record in ordered]) or 0.0),
        runs=[Run(r.config["seed"], r.score or 0.0, r.key, r.selected_step) for r in ordered],
        metrics=_metrics(ordered),
        gap=None if gap is None else Estimate(gap),
        figures=figures,
        settings=settings,
        command=again.command(ordered),
    )


def _curve(board: Leaderboard, runs: Sequence[RunRecord]) -> Curve | None:
    if board.root is None:
        return None
    store = ResultStore(board.root)
    points = [store.curve(record) for record in runs]
    return curve.over_seeds([one for one in points if one is not None])


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, added up in sorted order; None where a value is missing."""
    present = sorted(value for value in values if value is not None)
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _metrics(runs: Sequence[RunRecord]) -> dict[str, Estimate]:
    """What the score is the mean of, on the first evaluation split."""
    split = (runs[0].config["dataset"].get("evaluation") or [""])[0]
    values = [(record.metrics.get(split) or {}).get("values") or {} for record in runs]
    means = {name: _mean([one.get(name) for one in values]) for name in values[0]}
    return {name: Estimate(mean) for name, mean in means.items() if mean is not None}


def _failure(record: RunRecord) -> str:
    config = record.config
    cell = f"{config['method']['name']} · {config['model']['name']} · {config['dataset']['name']}"
    return f"{cell} · seed {config['seed']}: {record.status}, {record.error} (log: {record.log})"


def _tables(board: Leaderboard, rows: Sequence[Row]) -> list[Table]:
    """Costs in full, suites' averages, what was forgotten."""
    tables = [_costs(caption, of, rows, gap=gap) for caption, of, gap in _COSTS] if rows else []
    if any(suite.mean is not None for by_row in board.suites.values() for suite in by_row.values()):
        tables.append(_suites(board))
    if board.forgetting:
        caption = "What tuning made the model forget"
        tables.append(Table(caption, forgetting.COLUMNS, forgetting.lines(board.forgetting), left=4))
    return tables


def _costs(caption: str, names: Sequence[str], rows: Sequence[Row], *, gap: bool) -> Table:
    """A table of those of the costs that any row has; `gap`: with the score on training data less the score."""
    shown = [
        cost
        for cost in costs.COSTS
        if cost.id in names and any(costs.value(cost, row.figures) is not None for row in rows)
    ]
    lines = [
        [
            *(row.name, row.model),
            *(costs.text(cost, costs.value(cost, row.figures)) for cost in shown),
            *(["–" if (value := row.figures.get("gap")) is None else f"{100 * value:+.1f}"] if gap else []),
        ]
        for row in rows
    ]
    header = ["method", "model", *(cost.name for cost in shown), *(["train − eval"] if gap else [])]
    return Table(caption, header, lines)


def _suites(board: Leaderboard) -> Table:
    lines = []
    for row in board.rows[:_ROWS]:
        averages = [by_row[_name(row)] for by_row in board.suites.values()]
        if any(suite.mean is not None for suite in averages):
            texts = ["–" if suite.mean is None else f"{100 * suite.mean:.1f}" for suite in averages]
            lines.append([f"{row.method} ({row.variant})" if row.variant else row.method, row.model, *texts])
    return Table("Averages of whole suites", ["method", "model", *board.suites], lines)
