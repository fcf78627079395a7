"""`Leaderboard`: means and spreads over seeds, with what is missing left missing.

Two records are the same cell if they differ in nothing but the seed: not in a hyper-parameter, the recipe, the machine,
nor the data's or the model's fingerprint. What differs is shown in the row's or the column's name.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from peftbench import formulations
from peftbench.records import RunRecord
from peftbench.report import forgetting, machines, prompts, suites
from peftbench.report.forgetting import Forgot
from peftbench.report.load import Results, flat, settings
from peftbench.report.suites import RowName, Suite
from peftbench.schema import DatasetConfig, MethodConfig, ModelConfig, words

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


@dataclass(frozen=True)
class Leaderboard:
    """Rows best first (incomplete ones last), columns by name, and everything a reader must know."""

    columns: list[str]
    metrics: dict[str, str]
    rows: list[Row]
    failed: list[RunRecord]
    not_applicable: list[str]
    unreadable: list[tuple[str, str]]
    footnotes: list[str]
    soft_prompts: list[tuple[str, RunRecord]] = field(default_factory=list)
    #: By suite and row (method, model, variant), its average; by metric and row, the cells behind a score.
    suites: dict[str, dict[RowName, Suite]] = field(default_factory=dict)
    details: dict[str, dict[RowName, Cell]] = field(default_factory=dict)
    machines: list[str] = field(default_factory=list)
    forgetting: list[Forgot] = field(default_factory=list)


def leaderboard(results: Results) -> Leaderboard:
    """Aggregate the records of a results folder. One without a score (hidden labels) is in the footnotes alone."""
    records = [record for record in results.completed if record.score is not None]
    row_names, column_names = _row_names(records), _column_names(records)
    names = {record.key: (row_names[record.key], column_names[record.key]) for record in records}
    scores: dict[Any, list[float]] = defaultdict(list)
    for record in records:
        scores[names[record.key]].append(record.score or 0.0)
    cells = {key: _cell(sorted(found)) for key, found in scores.items()}
    columns = sorted(set(column_names.values()))
    by_row: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        by_row[row_names[record.key]].append(record)
    rows = [_row(name, {c: cells.get((name, c)) for c in columns}, members) for name, members in by_row.items()]
    return Leaderboard(
        columns=columns,
        metrics={column_names[r.key]: " + ".join(r.config["dataset"]["metrics"]) for r in records},
        rows=sorted(rows, key=lambda row: (row.mean is None, -(row.mean or 0.0), row.method, row.model, row.variant)),
        failed=sorted(results.failed, key=lambda r: (r.config["dataset"]["name"], r.config["method"]["name"], r.key)),
        not_applicable=sorted({record.error or "" for record in results.not_applicable}),
        unreadable=results.unreadable,
        footnotes=_footnotes(results.completed),
        machines=machines.collect(results.completed),
        soft_prompts=_soft_prompts(records, names),
        suites=suites.averages(records, row_names),
        forgetting=forgetting.collect(records, names),
        details={
            heading: {row: _cell(sorted(values)) for row, values in of.items()}
            for heading, of in suites.details(records, row_names, column_names).items()
        },
    )


def _soft_prompts(records: list[RunRecord], cells: Mapping[str, tuple[Any, str]]) -> list[tuple[str, RunRecord]]:
    """The record whose prompt is shown of every cell that has one, with the cell's name."""
    found = []
    for record in prompts.first_of_each(records, cells):
        (method, model, variant), column = cells[record.key]
        found.append((f"{method}{f' ({variant})' if variant else ''} · {model} · {column}", record))
    return found


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
        figures=_figures(records),
    )


def _figures(records: list[RunRecord]) -> dict[str, float | None]:
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for name, value in _numbers(record).items():
            found[name] += [] if value is None else [float(value)]
    return {
        name: (max(values) if "memory" in name else statistics.median(values)) if values else None
        for name, values in found.items()
    }


def _numbers(record: RunRecord) -> dict[str, float | None]:
    train = record.metrics.get("train")
    gap = train["score"] - record.score if train is not None and record.score is not None else None
    return {
        **{f"params.{k}": v for k, v in (record.params or {}).items()},
        **{f"efficiency.{k}": v for k, v in (record.efficiency or {}).items()},
        "gap": gap,
    }


def _row_names(records: Iterable[RunRecord]) -> dict[str, tuple[str, str, str]]:
    """(method, model, variant) of every record; the variant names what its command line changed of method and model,
    and the settings in which rows differ."""
    records = list(records)

    def own(record: RunRecord) -> dict[str, str]:
        method, model = _deciding(record, "method"), _deciding(record, "model")
        method = {key: value for key, value in method.items() if key not in _tuned(record)}
        fingerprint = str(record.environment.get("model_fingerprint"))[:8]
        inputs = {k: str(v)[:8] for k, v in (record.environment.get("inputs") or {}).items()}
        return {**method, **{f"model.{k}": v for k, v in model.items()}, "model_fingerprint": fingerprint, **inputs}

    def names(record: RunRecord) -> tuple[str, str]:
        return record.config["method"]["name"], record.config["model"]["name"]

    groups = [names(record) for record in records]
    within = _differences([own(record) for record in records], groups)
    overall = _differences([settings(record) for record in records], [None] * len(records))
    # Each formulation and data set counts its protocols by itself.
    ways = [(formulations.described(record.config), record.config["dataset"]["name"]) for record in records]
    versions = _differences([{"protocol": str(record.protocol)} for record in records], ways)
    return {
        record.key: (*group, _variant({**_changed(record), **mine, **common, **version}))
        for record, group, mine, common, version in zip(records, groups, within, overall, versions, strict=True)
    }


def _changed(record: RunRecord) -> dict[str, str]:
    """`lora` with another rank must not pass for the file's own, though no other row is there to differ from."""
    pairs = (change.lstrip("+~").partition("=") for change in record.changed)
    changed = {key.removeprefix("method."): value for key, _, value in pairs}
    return {key: value for key, value in changed.items() if key not in _tuned(record)}


def _tuned(record: RunRecord) -> set[str]:
    """What trials chose: it may differ from one data set to the next, and the row is the same, "as tuned"."""
    search = record.config["method"].get("search") if record.config.get("tune") else None
    return set(search or ())


def _variant(parts: Mapping[str, str]) -> str:
    """Without what is unset, and without the parts of a machine that has a name of its own."""
    named = "hardware.name" in parts
    shown = {
        k: v for k, v in parts.items() if v != "None" and not (named and k.startswith("hardware.") and k[9:] != "name")
    }
    return ", ".join(f"{k.replace('hardware.name', 'hardware')}={v}" for k, v in shown.items())


def _column_names(records: Iterable[RunRecord]) -> dict[str, str]:
    """The data set of every record; with what differs where one name stands for different data."""
    records = list(records)

    def own(record: RunRecord) -> dict[str, str]:
        fingerprint = str(record.environment.get("data_fingerprint"))[:8]
        return {**_deciding(record, "dataset"), "data": fingerprint}

    def name(record: RunRecord) -> str:
        return record.config["dataset"]["name"]

    groups = [name(record) for record in records]
    return {
        record.key: group + (f" ({', '.join(f'{k}={v}' for k, v in parts.items())})" if parts else "")
        for record, group, parts in zip(
            records, groups, _differences([own(record) for record in records], groups), strict=True
        )
    }


def _deciding(record: RunRecord, group: str) -> dict[str, str]:
    """A part of the configuration, of what decides a score."""
    return flat({k: v for k, v in record.config[group].items() if k not in _LEFT_OUT[group]})


def _differences(described: list[dict[str, str]], groups: list[Any]) -> list[dict[str, str]]:
    """Of every description, the entries that aren't the same throughout its group, sorted by key."""
    members: dict[Any, list[dict[str, str]]] = defaultdict(list)
    for values, group in zip(described, groups, strict=True):
        members[group].append(values)
    differing = {
        group: sorted(key for key in set().union(*found) if len({values.get(key, "None") for values in found}) > 1)
        for group, found in members.items()
    }
    return [
        {key: values[key] for key in differing[group] if key in values}
        for values, group in zip(described, groups, strict=True)
    ]


def _footnotes(records: Iterable[RunRecord]) -> list[str]:
    records = list(records)
    found = {note for record in records for note in record.footnotes}
    budgets = sorted({record.config["tune"] for record in records if record.config.get("tune")})
    found |= {f"tune={n}: hyper-parameters by {n} trials on the selection split, for each data set" for n in budgets}
    machines = {_machine(record) for record in records}
    if len(machines) > 1:
        found.add(f"times and memory were measured on different machines: {'; '.join(sorted(machines))}")
    for package in ("torch", "transformers", "peft"):
        versions = {str((record.environment.get("packages") or {}).get(package)) for record in records}
        if len(versions) > 1:
            found.add(f"made with different versions of {package}: {', '.join(sorted(versions))}")
    dirty = sum(bool(record.environment.get("git_dirty")) for record in records)
    if dirty:
        found.add(f"{dirty} of {len(records)} records were made by a checkout with uncommitted changes")
    return sorted(found)


def _machine(record: RunRecord) -> str:
    environment = record.environment
    gpus = ", ".join(environment.get("gpu") or []) or "no GPU"
    return f"{environment.get('cpu')}, {environment.get('threads')} threads, {gpus}"
