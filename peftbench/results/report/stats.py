"""`Leaderboard`: means and spreads over seeds, with what is missing left missing.

Two records are the same cell if they differ in nothing but the seed: not in a hyper-parameter, the recipe, the machine,
nor the data's or the model's fingerprint. What differs is shown in the row's or the column's name.
"""

import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.results.report import (
    estimated,
    evaluation,
    evidence,
    forgetting,
    machines,
    naming,
    prompts,
    suites,
    warned,
)
from peftbench.results.report.estimated import CellMemory
from peftbench.results.report.evaluation import EvaluationFigure
from peftbench.results.report.evidence import Evidence
from peftbench.results.report.forgetting import Forgot
from peftbench.results.report.load import Results
from peftbench.results.report.measured import Measured, Medians
from peftbench.results.report.suites import RowName, Suite


@dataclass(frozen=True)
class Score:
    """A score over seeds, as fractions; `std` is the sample standard deviation, None for one seed."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class LeaderboardRow:
    """A method on a model.

    Attributes:
        method, model: names; `variant` says what sets the row apart from others of the same names.
        cells: by column; a column without a record is None.
        mean: over all columns, those of its study where studies stay apart; None where one is missing (it would
            compare unlike things).
        figures, busy: of the row's runs, and which of them aren't to be compared (`measured.Medians`).
    """

    method: str
    model: str
    variant: str
    cells: dict[str, Score | None]
    mean: float | None
    figures: dict[str, float | None]
    busy: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Rows best first (incomplete ones last), columns by name, and everything a reader must know."""

    columns: list[str]
    metrics: dict[str, str]
    rows: list[LeaderboardRow]
    failed: list[RunRecord]
    not_applicable: list[str]
    unreadable: list[tuple[str, str]]
    footnotes: list[str]
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    soft_prompts: list[tuple[str, RunRecord]] = field(default_factory=list)
    #: By suite and row (method, model, variant), its average; by metric and row, the cells behind a score.
    suites: dict[str, dict[RowName, Suite]] = field(default_factory=dict)
    details: dict[str, dict[RowName, Score]] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)
    forgetting: list[Forgot] = field(default_factory=list)
    evaluation: list[EvaluationFigure] = field(default_factory=list)
    #: By row and column, the records that a cell is made of; and how sure their scores are.
    runs: dict[tuple[RowName, str], list[RunRecord]] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    #: By row and column, the warnings that decide whether a score means anything.
    warned: dict[tuple[RowName, str], list[str]] = field(default_factory=dict)
    #: By a record's `id` the results folder that it lies in.
    roots: dict[int, Path] = field(default_factory=dict)
    #: By a record's `id` the study that it is of, where studies stay apart.
    studies: dict[int, str] = field(default_factory=dict)
    #: The figures of all runs that have scores.
    measured: Measured = field(default_factory=lambda: Measured([]))
    #: Published rows that records of this folder are runs of (`reproduction.match.JudgedRow`).
    published: list[Any] = field(default_factory=list)
    #: Sayings that runs of this folder test (`reproduction.tested.Tested`).
    findings: list[Any] = field(default_factory=list)
    memory: list[CellMemory] = field(default_factory=list)


def leaderboard(results: Results) -> Leaderboard:
    """Aggregate the records of a results folder. One without a score (hidden labels) is in the footnotes alone."""
    records = [record for record in results.completed if record.score is not None]
    row_names, column_names = naming.row_names(records, results.studies), naming.column_names(records)
    names = {id(record): (row_names[id(record)], column_names[id(record)]) for record in records}
    runs: dict[tuple[RowName, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        runs[names[id(record)]].append(record)
    cells = {key: _score(sorted(record.score or 0.0 for record in members)) for key, members in runs.items()}
    columns = sorted(set(column_names.values()))
    by_row: dict[RowName, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_row[row_names[id(record)]].append(record)
    measured = Measured(records)
    return Leaderboard(
        columns=columns,
        metrics={column_names[id(r)]: " + ".join(r.config["dataset"].get("metrics", {})) for r in records},
        rows=_rows(by_row, cells, columns, measured, results.studies),
        failed=sorted(results.failed, key=lambda r: (r.config["dataset"]["name"], r.config["method"]["name"], r.key)),
        not_applicable=sorted({record.error or "" for record in results.not_applicable}),
        unreadable=results.unreadable,
        doubtful=results.doubtful,
        footnotes=sorted({*warned.footnotes(runs), *_footnotes(results.completed), *suites.left_out(records)}),
        warned={cell: texts for cell, members in runs.items() if (texts := warned.of_scores(members))},
        machines=machines.collect(results.completed),
        soft_prompts=_soft_prompts(records, names),
        suites=_suites(records, row_names, column_names, results.studies),
        forgetting=forgetting.collect(records, names),
        evaluation=evaluation.collect(records, names),
        runs=dict(runs),
        evidence=evidence.collect(runs, results.roots, results.studies),
        roots=results.roots,
        studies=results.studies,
        measured=measured,
        published=_published(results.completed),
        findings=results.findings,
        memory=estimated.collect(records, names, results.estimates),
        details={
            heading: {row: _score(sorted(values)) for row, values in by_row_name.items()}
            for heading, by_row_name in suites.details(records, row_names, column_names).items()
        },
    )


def _rows(
    by_row: Mapping[RowName, list[RunRecord]],
    cells: Mapping[tuple[RowName, str], Score],
    columns: Sequence[str],
    measured: Measured,
    studies: Mapping[int, str],
) -> list[LeaderboardRow]:
    """The rows, best first, study by study where studies stay apart."""
    study = {name: studies.get(id(members[0]), "") for name, members in by_row.items()}
    has: dict[str, set[str]] = defaultdict(set)
    for name, column in cells:
        has[study[name]].add(column)
    rows = [
        _row(name, {c: cells.get((name, c)) for c in columns}, measured.of(members), has[study[name]])
        for name, members in by_row.items()
    ]

    def place(row: LeaderboardRow) -> tuple[Any, ...]:
        name = row.method, row.model, row.variant
        return study[name], row.mean is None, -(row.mean or 0.0), *name

    return sorted(rows, key=place)


def _suites(
    records: list[RunRecord], rows: Mapping[int, RowName], columns: Mapping[int, str], studies: Mapping[int, str]
) -> dict[str, dict[RowName, Suite]]:
    """The averages of whole suites by suite and row, those of each study by themselves where studies stay apart."""
    by_study: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_study[studies.get(id(record), "")].append(record)
    merged: dict[str, dict[RowName, Suite]] = {}
    for members in by_study.values():
        own = {id(record): rows[id(record)] for record in members}
        for suite, averages in suites.averages(members, own, columns).items():
            merged.setdefault(suite, dict.fromkeys(rows.values(), Suite(None, []))).update(averages)
    return merged


def _published(records: list[RunRecord]) -> list[Any]:
    """The published rows that records are runs of; what judges them is imported where there are any."""
    if not any(record.config.get("experiment") for record in records):
        return []
    from peftbench.results.reproduction import match

    return match.rows(records)


def _soft_prompts(records: list[RunRecord], cells: Mapping[int, tuple[Any, str]]) -> list[tuple[str, RunRecord]]:
    """The record whose prompt is shown of every cell that has one, with the cell's name."""
    titled = []
    for record in prompts.first_of_each(records, cells):
        row, column = cells[id(record)]
        titled.append((f"{suites.in_full(row)} · {row[1]} · {column}", record))
    return titled


def _score(scores: list[float]) -> Score:
    """Sorted scores, so that the last digit doesn't depend on the order of the records."""
    return Score(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None, len(scores))


def _row(name: RowName, cells: dict[str, Score | None], measured: Medians, columns: Collection[str]) -> LeaderboardRow:
    """A row; `columns` are those that its mean is over, of which it may lack some."""
    method, model, variant = name
    scores = [cell.mean for cell in cells.values() if cell is not None]
    return LeaderboardRow(
        method=method,
        model=model,
        variant=variant,
        cells=cells,
        mean=sum(scores) / len(scores) if len(scores) == len(columns) else None,
        figures=measured.figures,
        busy=measured.busy,
    )


def _footnotes(records: Iterable[RunRecord]) -> list[str]:
    records = list(records)
    notes = {note for record in records if record.score is None for note in record.notes}
    budgets = sorted({record.config["tune"] for record in records if record.config.get("tune")})
    notes |= {f"tune={n}: hyper-parameters by {n} trials on the selection split, for each data set" for n in budgets}
    unlike = [kind[0] for kind in machines.kinds(records)]
    descriptions = {machines.briefly(record) for record in unlike}
    if len(descriptions) > 1:
        notes.add(f"times and memory were measured on different machines: {'; '.join(sorted(descriptions))}")
    for package in ("torch", "transformers", "peft"):
        versions = {str((record.environment.get("packages") or {}).get(package)) for record in unlike}
        if len(versions) > 1:
            notes.add(f"made with different versions of {package}: {', '.join(sorted(versions))}")
    dirty = sum(bool(record.environment.get("git_dirty")) for record in records)
    if dirty:
        notes.add(f"{dirty} of {len(records)} records were made by a checkout with uncommitted changes")
    return sorted(notes)
