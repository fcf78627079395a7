"""`Leaderboard`: means and spreads over seeds, with what is missing left missing.

Two records are the same cell if they differ in nothing but the seed: not in a hyper-parameter, the recipe, the machine,
nor the data's or the model's fingerprint. What differs is shown in the row's or the column's name.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from peftbench.config import formulations
from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.identity import words
from peftbench.config.types import MethodConfig, ModelConfig
from peftbench.results.records import RunRecord
from peftbench.results.report import forgetting, machines, prompts, suites
from peftbench.results.report.forgetting import Forgot
from peftbench.results.report.load import Results, flat, settings
from peftbench.results.report.suites import RowName, Suite

N = TypeVar("N")

_KINDS = {"method": MethodConfig, "model": ModelConfig, "dataset": DatasetConfig}
#: By part of the configuration: what only describes it, and its name, by which it's grouped.
_LEFT_OUT = {group: {"name", *words(kind)} for group, kind in _KINDS.items()}


@dataclass(frozen=True)
class Cell:
    """A score over seeds, as fractions; `std` is the sample standard deviation, None for one seed."""

    mean: float
    std: float | None
    n: int


@dataclass(frozen=True)
class Row:
    """A method on a model.

    Attributes:
        method, model: names; `variant` says what sets the row apart from others of the same names.
        cells: by column; a column without a record is None.
        mean: over all columns; None where one is missing (it would compare unlike things).
        figures: medians over the row's runs by name (`params.trainable`, `efficiency.train_samples_per_s`, ...), but
            for memory the largest; None where no run has one.
    """

    method: str
    model: str
    variant: str
    cells: dict[str, Cell | None]
    mean: float | None
    figures: dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Rows best first (incomplete ones last), columns by name, and everything a reader must know."""

    columns: list[str]
    metrics: dict[str, str]
    rows: list[Row]
    failed: list[RunRecord]
    not_applicable: list[str]
    unreadable: list[tuple[str, str]]
    footnotes: list[str]
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    soft_prompts: list[tuple[str, RunRecord]] = field(default_factory=list)
    #: By suite and row (method, model, variant), its average; by metric and row, the cells behind a score.
    suites: dict[str, dict[RowName, Suite]] = field(default_factory=dict)
    details: dict[str, dict[RowName, Cell]] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)
    forgetting: list[Forgot] = field(default_factory=list)
    #: By row and column, the records that a cell is made of.
    runs: dict[tuple[RowName, str], list[RunRecord]] = field(default_factory=dict)
    #: The results folder; None: of records that lie in none.
    root: Path | None = None


def leaderboard(results: Results) -> Leaderboard:
    """Aggregate the records of a results folder. One without a score (hidden labels) is in the footnotes alone."""
    records = [record for record in results.completed if record.score is not None]
    row_names, column_names = _row_names(records), _column_names(records)
    names = {id(record): (row_names[id(record)], column_names[id(record)]) for record in records}
    runs: dict[tuple[RowName, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        runs[names[id(record)]].append(record)
    cells = {key: _cell(sorted(record.score or 0.0 for record in members)) for key, members in runs.items()}
    columns = sorted(set(column_names.values()))
    by_row: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        by_row[row_names[id(record)]].append(record)
    rows = [_row(name, {c: cells.get((name, c)) for c in columns}, members) for name, members in by_row.items()]
    return Leaderboard(
        columns=columns,
        metrics={column_names[id(r)]: " + ".join(r.config["dataset"].get("metrics", {})) for r in records},
        rows=sorted(rows, key=lambda row: (row.mean is None, -(row.mean or 0.0), row.method, row.model, row.variant)),
        failed=sorted(results.failed, key=lambda r: (r.config["dataset"]["name"], r.config["method"]["name"], r.key)),
        not_applicable=sorted({record.error or "" for record in results.not_applicable}),
        unreadable=results.unreadable,
        doubtful=results.doubtful,
        footnotes=sorted([*_footnotes(results.completed), *suites.left_out(records)]),
        machines=machines.collect(results.completed),
        soft_prompts=_soft_prompts(records, names),
        suites=suites.averages(records, row_names, column_names),
        forgetting=forgetting.collect(records, names),
        runs=dict(runs),
        root=results.root,
        details={
            heading: {row: _cell(sorted(values)) for row, values in by_row_name.items()}
            for heading, by_row_name in suites.details(records, row_names, column_names).items()
        },
    )


def _soft_prompts(records: list[RunRecord], cells: Mapping[int, tuple[Any, str]]) -> list[tuple[str, RunRecord]]:
    """The record whose prompt is shown of every cell that has one, with the cell's name."""
    titled = []
    for record in prompts.first_of_each(records, cells):
        (method, model, variant), column = cells[id(record)]
        titled.append((f"{method}{f' ({variant})' if variant else ''} · {model} · {column}", record))
    return titled


def _cell(scores: list[float]) -> Cell:
    """Sorted scores, so that the last digit doesn't depend on the order of the records."""
    return Cell(statistics.fmean(scores), statistics.stdev(scores) if len(scores) > 1 else None, len(scores))


def _row(name: tuple[str, str, str], cells: dict[str, Cell | None], records: list[RunRecord]) -> Row:
    method, model, variant = name
    scores = [cell.mean for cell in cells.values() if cell is not None]
    return Row(
        method=method,
        model=model,
        variant=variant,
        cells=cells,
        mean=sum(scores) / len(scores) if len(scores) == len(cells) else None,
        figures=figures(records),
    )


def figures(records: Iterable[RunRecord]) -> dict[str, float | None]:
    """Medians over runs of what was measured, of memory the largest."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, value in _numbers(record).items():
            by_name[name] += [] if value is None else [float(value)]
    return {
        name: (max(values) if "memory" in name else statistics.median(values)) if values else None
        for name, values in by_name.items()
    }


def _numbers(record: RunRecord) -> dict[str, float | None]:
    train = record.metrics.get("train")
    trained = None if train is None else train.get("score")
    gap = None if trained is None or record.score is None else trained - record.score
    return {
        **{f"params.{k}": v for k, v in (record.params or {}).items()},
        **{f"efficiency.{k}": v for k, v in (record.efficiency or {}).items()},
        "gap": gap,
    }


def _row_names(records: Iterable[RunRecord]) -> dict[int, tuple[str, str, str]]:
    """The method, model and variant of every record, by the record's `id` (two records may have one key). The variant
    names what the command line changed of method and model, and the settings in which rows differ."""
    records = list(records)
    started_from = {_fingerprint(record, "model") for record in records}
    short = _shortened(started_from.union(*((r.environment.get("inputs") or {}).values() for r in records)))

    def parts_of(record: RunRecord) -> dict[str, str]:
        method, model = _deciding(record, "method"), _deciding(record, "model")
        method = {key: value for key, value in method.items() if key not in _tuned(record)}
        inputs = {name: short[value] for name, value in (record.environment.get("inputs") or {}).items()}
        started = {"model_fingerprint": short[_fingerprint(record, "model")]}
        return {**method, **{f"model.{k}": v for k, v in model.items()}, **started, **inputs}

    groups = [(record.config["method"]["name"], record.config["model"]["name"]) for record in records]
    by_model = _differences([parts_of(record) for record in records], groups)
    common = _settings(records)
    # Each formulation and data set counts its protocols by itself.
    formulated = [(formulations.described(record.config), record.config["dataset"]["name"]) for record in records]
    versions = _differences([{"protocol": str(record.protocol)} for record in records], formulated)
    parts = [
        {k: v for k, v in {**_changed(record), **mine, **others, **version}.items() if v != "None"}
        for record, mine, others, version in zip(records, by_model, common, versions, strict=True)
    ]
    variants = [", ".join(f"{k.replace('hardware.name', 'hardware')}={v}" for k, v in part.items()) for part in parts]
    names = _unlike(list(zip(groups, variants, strict=True)), parts)
    return {id(record): (*group, variant) for record, (group, variant) in zip(records, names, strict=True)}


def _settings(records: list[RunRecord]) -> list[dict[str, str]]:
    """For every record the settings in which rows differ. A choice of `hardware=` stands by its name; its parts are
    named where records of that name differ in them."""
    described = [
        {key: value for key, value in settings(record).items() if key not in _tuned(record)} for record in records
    ]
    machine = [{k for k in values if k.startswith("hardware.") and k != "hardware.name"} for values in described]
    rest = [{k: values[k] for k in values.keys() - parts} for values, parts in zip(described, machine, strict=True)]
    parts = [{k: values[k] for k in parts} for values, parts in zip(described, machine, strict=True)]
    overall = _differences(rest, [None] * len(records))
    within = _differences(parts, [record.config["hardware"]["name"] for record in records])
    return [dict(sorted({**one, **other}.items())) for one, other in zip(overall, within, strict=True)]


def _changed(record: RunRecord) -> dict[str, str]:
    """The keys that the command line changed, with their values: `lora` with another rank must not pass for the file's
    own, even where no other row differs from it."""
    pairs = (change.lstrip("+~").partition("=") for change in record.changed)
    changed = {key.removeprefix("method."): value for key, _, value in pairs}
    return {key: value for key, value in changed.items() if key not in _tuned(record)}


def _tuned(record: RunRecord) -> set[str]:
    """The keys that trials chose. They may differ from one data set to the next, and the row is the same, "as
    tuned"."""
    if not record.config.get("tune"):
        return set()
    space = record.config.get("tune_space") or {}
    return {*(record.config["method"].get("search") or ()), *(key.removeprefix("method.") for key in space), *space}


def _column_names(records: Iterable[RunRecord]) -> dict[int, str]:
    """The data set's name of every record, by the record's `id`, with what differs where one name stands for different
    data. Averages go by these names: nothing else decides what is the same data."""
    records = list(records)
    short = _shortened({_fingerprint(record, "data") for record in records})

    def parts_of(record: RunRecord) -> dict[str, str]:
        return {**_deciding(record, "dataset"), "data": short[_fingerprint(record, "data")]}

    groups = [record.config["dataset"]["name"] for record in records]
    parts = _differences([parts_of(record) for record in records], groups)
    written = [f" ({', '.join(f'{k}={v}' for k, v in differing.items())})" if differing else "" for differing in parts]
    titles = [(group + suffix, "") for group, suffix in zip(groups, written, strict=True)]
    names = _unlike(titles, list(zip(groups, parts, strict=True)))
    return {id(record): column + number for record, (column, number) in zip(records, names, strict=True)}


def _fingerprint(record: RunRecord, part: str) -> str:
    return str(record.environment.get(f"{part}_fingerprint"))


def _shortened(fingerprints: set[str]) -> dict[str, str]:
    """Each fingerprint's first eight digits, or as many as tell all fingerprints apart."""
    length = 8
    while len({fingerprint[:length] for fingerprint in fingerprints}) < len(fingerprints):
        length += 1
    return {fingerprint: fingerprint[:length] for fingerprint in fingerprints}


def _unlike(names: list[tuple[N, str]], parts: list[Any]) -> list[tuple[N, str]]:
    """The names, with a number added to the second half of those that look alike but are made of different parts."""
    alike: dict[tuple[N, str], list[Any]] = defaultdict(list)
    unlike = []
    for name, made_of in zip(names, parts, strict=True):
        if made_of not in alike[name]:
            alike[name].append(made_of)
        number = alike[name].index(made_of) + 1
        unlike.append(name if number == 1 else (name[0], f"{name[1]} [{number}]".strip()))
    return unlike


def _deciding(record: RunRecord, group: str) -> dict[str, str]:
    """A part of a record's configuration, flat, without the fields that only describe."""
    return flat({k: v for k, v in record.config[group].items() if k not in _LEFT_OUT[group]})


def _differences(described: list[dict[str, str]], groups: list[Any]) -> list[dict[str, str]]:
    """For every description its entries that differ within its group, sorted by key."""
    members: dict[Any, list[dict[str, str]]] = defaultdict(list)
    for values, group in zip(described, groups, strict=True):
        members[group].append(values)
    differing = {group: _differing(descriptions) for group, descriptions in members.items()}
    return [
        {key: values[key] for key in differing[group] if key in values}
        for values, group in zip(described, groups, strict=True)
    ]


def _differing(descriptions: list[dict[str, str]]) -> list[str]:
    """The keys whose values aren't the same in all descriptions, sorted."""
    first = descriptions[0]
    # Most runs of a sweep are described alike: to compare whole dictionaries is quicker than each of their keys.
    distinct = [first, *(values for values in descriptions if values != first)]
    return sorted(key for key in set().union(*distinct) if len({values.get(key, "None") for values in distinct}) > 1)


def _footnotes(records: Iterable[RunRecord]) -> list[str]:
    records = list(records)
    notes = {note for record in records for note in record.notes}
    budgets = sorted({record.config["tune"] for record in records if record.config.get("tune")})
    notes |= {f"tune={n}: hyper-parameters by {n} trials on the selection split, for each data set" for n in budgets}
    descriptions = {machines.briefly(record) for record in records}
    if len(descriptions) > 1:
        notes.add(f"times and memory were measured on different machines: {'; '.join(sorted(descriptions))}")
    for package in ("torch", "transformers", "peft"):
        versions = {str((record.environment.get("packages") or {}).get(package)) for record in records}
        if len(versions) > 1:
            notes.add(f"made with different versions of {package}: {', '.join(sorted(versions))}")
    dirty = sum(bool(record.environment.get("git_dirty")) for record in records)
    if dirty:
        notes.add(f"{dirty} of {len(records)} records were made by a checkout with uncommitted changes")
    return sorted(notes)
