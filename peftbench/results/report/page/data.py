"""From a `Leaderboard` to the page's `Document`."""

import functools
from collections import defaultdict
from collections.abc import Mapping, Sequence

from peftbench.results.records import RunRecord
from peftbench.results.report import forgetting, naming, overfitting, prompts, stats
from peftbench.results.report.flattening import flat
from peftbench.results.report.page import cells, compared, costs, sections, varied
from peftbench.results.report.page.document import Column, Document, Folded, MeanWithInterval, PageRow, Table
from peftbench.results.report.stats import Leaderboard
from peftbench.results.report.suites import RowName, in_full
from peftbench.system import fingerprint

#: Rows of a page, at most: a browser shows more than these, but nobody reads them. Files have them all.
_ROWS = 500


#: Caption and costs.
_COSTS = (
    (
        "Memory and storage: the largest of a row's runs",
        ("trained", "share", "adapter", "head", "weights", "memory", "stored"),
    ),
    (
        "Time: medians over a row's runs that a busy machine didn't slow (* it slowed all of them)",
        ("time", "rate", "step", "latency", "merged", "base", "relative"),
    ),
    (
        "Hosted and prompted runs, as the service counted: medians over a row's runs",
        ("price", "questions", "asked", "answered", "trained_tokens", "job"),
    ),
)


@functools.lru_cache(maxsize=1)  # The page and its pictures are files of one board.
def document(board: Leaderboard) -> Document:
    """All that the page shows of a leaderboard."""
    columns = [Column(_id("c", name), name, board.metrics.get(name, "")) for name in board.columns]
    settings = _settings(board)
    differing = _differing(list(settings.values()))
    notes = compared.notes(board)
    rows = {_name(row): _row(board, row, columns, settings, differing, notes) for row in board.rows[:_ROWS]}
    shared = next(iter(settings.values()), {})
    by_id = {
        (row.id, column.id): settings[name, column.name]
        for name, row in rows.items()
        for column in columns
        if column.id in row.cells
    }
    return Document(
        columns=columns,
        rows=list(rows.values()),
        panels=compared.panels(columns, rows, board.evidence.panels),
        matrices=[
            *compared.improvements(rows, board.evidence.standings),
            *compared.matrices(columns, rows, board.evidence.panels),
        ],
        sweeps=varied.sweeps(columns, list(rows.values()), by_id),
        standings=_standings(board),
        costs=_costs(columns, list(rows.values())),
        sections=list(sections.of(board)),
        failed=[_failure(record) for record in board.failed],
        not_applicable=board.not_applicable,
        unreadable=[f"{file}: {reason}" for file, reason in board.unreadable],
        doubtful=[f"{file}: {reason}" for file, reason in board.doubtful],
        machines=board.machines,
        footnotes=[*board.evidence.notes, *board.footnotes],
        soft_prompts=[Folded(title, prompts.lines(record)) for title, record in board.soft_prompts],
        shared={key: text for key, text in shared.items() if key not in differing and text != "None"},
        cut=max(0, len(board.rows) - _ROWS),
    )


def _id(kind: str, *names: str) -> str:
    """An element's id that stays the same when other rows come: links name it."""
    return kind + fingerprint.of_json(list(names))[:8]


def _name(row: stats.LeaderboardRow) -> RowName:
    return row.method, row.model, row.variant


def _row_id(name: RowName) -> str:
    return _id("r", *name)


def _settings(board: Leaderboard) -> dict[tuple[RowName, str], dict[str, str]]:
    """The configuration of each cell's first run, by row and column, flat, without the names of the cell and its
    seed."""
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
    row: stats.LeaderboardRow,
    columns: Sequence[Column],
    settings: Mapping[tuple[RowName, str], Mapping[str, str]],
    differing: set[str],
    notes: Mapping[tuple[RowName, str], Sequence[tuple[str, str]]],
) -> PageRow:
    name = _name(row)
    made = {
        column.id: cells.cell(
            board,
            (name, column.name),
            {k: v for k, v in settings[name, column.name].items() if k in differing and v != "None"},
            notes.get((name, column.name), []),
        )
        for column in columns
        if (name, column.name) in board.runs
    }
    runs = [record for column in board.columns for record in board.runs.get((name, column), [])]
    study = board.studies.get(id(runs[0]), "")
    return PageRow(
        id=_row_id(name),
        method=row.method,
        model=row.model,
        variant=naming.within_study(row.variant, study),
        family=next((str(f) for record in runs if (f := record.config["method"].get("family"))), "other"),
        cells=made,
        mean=row.mean,
        figures=row.figures,
        busy=row.busy,
        study=study,
    )


def _failure(record: RunRecord) -> str:
    config = record.config
    cell = f"{config['method']['name']} · {config['model']['name']} · {config['dataset']['name']}"
    return f"{cell} · seed {config['seed']}: {record.status}, {record.error} (log: {record.log})"


def _standings(board: Leaderboard) -> list[Table]:
    """Ranks over data sets, suites' averages, what was forgotten."""
    tables = compared.standings(board)
    if any(suite.mean is not None for by_row in board.suites.values() for suite in by_row.values()):
        tables.append(_suites(board))
    if board.forgetting:
        caption = "What tuning made the model forget"
        tables.append(Table(caption, forgetting.COLUMNS, forgetting.lines(board.forgetting), left=4))
    return tables


def _costs(columns: Sequence[Column], rows: Sequence[PageRow]) -> list[Table]:
    """The tables of what methods cost, and of how much they over-fit."""
    return [*filter(None, (_cost(caption, names, rows) for caption, names in _COSTS)), *_gaps(columns, rows)]


def _cost(caption: str, names: Sequence[str], rows: Sequence[PageRow]) -> Table | None:
    """A table of those of the costs that any row has, and of the rows that have any; None where none has."""
    shown = [
        cost
        for cost in costs.COSTS
        if cost.id in names and any(costs.value(cost, row.figures) is not None for row in rows)
    ]
    rows = [row for row in rows if any(costs.value(cost, row.figures) is not None for cost in shown)]
    if not rows:
        return None
    texts = [[costs.text(cost, costs.value(cost, row.figures)) + _mark(cost, row) for cost in shown] for row in rows]
    return _by_row(caption, [cost.name for cost in shown], rows, texts)


def _gaps(columns: Sequence[Column], rows: Sequence[PageRow]) -> list[Table]:
    """A table of how much more methods score on training data, by data set."""
    gaps = {row.id: {id_: cell.gap for id_, cell in row.cells.items() if cell.gap is not None} for row in rows}
    rows, columns = [row for row in rows if gaps[row.id]], [c for c in columns if any(c.id in g for g in gaps.values())]
    if not rows:
        return []
    texts = [[_gap(gaps[row.id].get(column.id)) for column in columns] for row in rows]
    caption = "Over-fitting: score on training data less the score, in points, with the 95 % interval of other seeds"
    return [_by_row(caption, [column.name for column in columns], rows, texts)]


def _gap(one: MeanWithInterval | None) -> str:
    return overfitting.in_points(None if one is None else overfitting.Gap(one.mean, one.interval))


def _by_row(caption: str, header: Sequence[str], rows: Sequence[PageRow], texts: Sequence[Sequence[str]]) -> Table:
    """A table of rows, which begin with their names."""
    study = ["study"] * any(row.study for row in rows)
    lines = [
        [*([row.study] if study else []), row.name, row.model, *line] for row, line in zip(rows, texts, strict=True)
    ]
    return Table(caption, [*study, "method", "model", *header], lines, left=2 + len(study))


def _mark(cost: costs.Cost, row: PageRow) -> str:
    """The mark of a figure that a busy machine gave."""
    return "*" if costs.spoilt(cost, row.busy) and costs.value(cost, row.figures) is not None else ""


def _suites(board: Leaderboard) -> Table:
    lines = []
    for row in board.rows[:_ROWS]:
        averages = [by_row[_name(row)] for by_row in board.suites.values()]
        if any(suite.mean is not None for suite in averages):
            texts = ["–" if suite.mean is None else f"{100 * suite.mean:.1f}" for suite in averages]
            lines.append([in_full(_name(row)), row.model, *texts])
    return Table("Averages of whole suites", ["method", "model", *board.suites], lines)
