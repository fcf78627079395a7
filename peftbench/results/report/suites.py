"""Every metric on every evaluation split, and the averages of benchmark suites: what a single score leaves out.

GLUE (arXiv 1804.07461, section 3) and SuperGLUE (arXiv 1905.00537, section 3) average a task's metrics first, then the
tasks; GLUE counts MNLI as the mean of its two evaluation splits. A data set's file says which suite it is a part of.
"""

import functools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from peftbench.config import paths
from peftbench.config.loading import read_yaml
from peftbench.results.records import RunRecord

#: (method, model, variant).
RowName = tuple[str, str, str]


def in_full(row: RowName) -> str:
    """A row's method with what sets it apart from others of that method."""
    method, _, variant = row
    return f"{method} ({variant})" if variant else method


#: What a data set of a suite can't have another of: its score would be of something else.
_OFFICIAL = ("path", "config", "task", "text", "label", "labels", "evaluation", "metrics")
#: Records by their data set's name, and by what tells other data of that name apart.
_Data = dict[str, dict[str, list[RunRecord]]]


@dataclass(frozen=True)
class Suite:
    """A row's average over a suite as a fraction; None where data sets or splits of it are `missing`."""

    mean: float | None
    missing: list[str]


@functools.cache
def members() -> dict[str, list[str]]:
    """The data sets of every suite, read off the data sets' files."""
    by_suite: dict[str, list[str]] = defaultdict(list)
    for name, file in sorted(paths.choice_files("dataset").items()):
        # Not parsed: that would take longer than the rest of a report.
        line = re.search(r"^suite: *(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if line:
            by_suite[line[1]].append(name)
    return dict(by_suite)


def averages(
    records: Iterable[RunRecord], rows: Mapping[int, RowName], columns: Mapping[int, str]
) -> dict[str, dict[RowName, Suite]]:
    """The average of every suite, by suite and row. A suite of which the records hold one data set alone is left out.

    Other data than a suite's that have the name of one of its data sets (one's own file) aren't in its average. Where a
    name stands for several data all the same, nothing says which are the suite's: none is averaged, in any row.

    Args:
        rows, columns: by a record's `id` the names of its row and of its data.
    """
    by_suite: dict[str, _Data] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records:
        name = record.config["dataset"]["name"]
        for suite in _suites(record):
            by_suite[suite][name][columns[id(record)]].append(record)
    return {
        suite: {row: _average(by_suite[suite], names, rows, row) for row in sorted(set(rows.values()))}
        for suite, names in members().items()
        if len(by_suite[suite].keys() & set(names)) > 1
    }


def left_out(records: Iterable[RunRecord]) -> list[str]:
    """A line for every name of a suite's data set under which there are runs that aren't in its average."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        name = record.config["dataset"]["name"]
        for suite in (suite for suite, names in members().items() if name in names and suite not in _suites(record)):
            counts[name, suite] += 1
    return [
        f"{name}: {n} run{'s' if n != 1 else ''} on other data of that name, which the average of {suite} leaves out"
        for (name, suite), n in sorted(counts.items())
    ]


def _suites(record: RunRecord) -> list[str]:
    """The suites that a record's data set belongs to, as the record says; none where the command line had it be other
    data, or scored otherwise. An older record doesn't say it: then those that have a data set of this name, unless the
    data are a file of one's own."""
    dataset = record.config["dataset"]
    named = [suite for suite, names in members().items() if dataset["name"] in names]
    if named and any(dataset.get(key) != value for key, value in _official(dataset["name"]).items() if key in dataset):
        return []
    if "suite" in dataset:
        return [dataset["suite"]] if dataset["suite"] is not None else []
    return named if dataset.get("format") is None else []


@functools.cache
def _official(name: str) -> dict[str, Any]:
    """The keys of the file of a suite's data set that say where its rows are, what is asked and how it is scored."""
    file = read_yaml(paths.choice_files("dataset")[name])
    return {key: value for key, value in file.items() if key in _OFFICIAL}


def _average(data: _Data, names: Iterable[str], rows: Mapping[int, RowName], row: RowName) -> Suite:
    """A row's average over the data sets of a suite, each with its runs (seeds).

    Args:
        data: of the whole board.
    """
    tasks: list[float] = []
    missing: list[str] = []
    for name in names:
        several = data.get(name, {})
        if len(several) > 1:
            missing.append(f"{name} ({len(several)} different data: {', '.join(sorted(several))})")
            continue
        records = [record for runs in several.values() for record in runs if rows[id(record)] == row]
        splits = {
            split: _scores(records, split) for split in (records[0].config["dataset"]["evaluation"] if records else [])
        }
        absent = [split for split, scores in splits.items() if not scores]
        if not splits or len(absent) == len(splits):
            missing.append(name)
        elif absent:
            missing += [f"{name} ({split})" for split in absent]
        else:
            tasks.append(statistics.fmean(statistics.fmean(scores) for scores in splits.values()))
    return Suite(None if missing else statistics.fmean(tasks), missing)


def _scores(records: list[RunRecord], split: str) -> list[float]:
    """The scores on a split, sorted: the last digit of a mean mustn't depend on the records' order."""
    scores = [(record.metrics.get(split) or {}).get("score") for record in records]
    return sorted(score for score in scores if score is not None)


def details(
    records: Iterable[RunRecord], rows: Mapping[int, RowName], columns: Mapping[int, str]
) -> dict[str, dict[RowName, list[float]]]:
    """Every metric of data sets that have several metrics or several evaluation splits, those of data that are held out
    among them: by heading and row, one value for each run."""
    by_heading: dict[str, dict[RowName, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        splits = [s for s in (*record.config["dataset"]["evaluation"], *_held_out(record)) if record.metrics.get(s)]
        values = {(split, name): v for split in splits for name, v in _values(record, split).items()}
        for (split, name), value in values.items():
            if len(values) > 1 and value is not None:
                where = f"{columns[id(record)]}{f' {split}' if len(splits) > 1 else ''} {name}"
                by_heading[where][rows[id(record)]].append(value)
    return {heading: dict(by_row) for heading, by_row in sorted(by_heading.items())}


def _held_out(record: RunRecord) -> list[str]:
    """The splits of data sets that a mixture doesn't train on."""
    others = record.config["dataset"].get("held_out") or []
    names = [other.get("name") for other in others if isinstance(other, dict)]  # A record may be anyone's.
    return [split for split in record.metrics if split.partition("/")[0] in names]


def _values(record: RunRecord, split: str) -> dict[str, float | None]:
    return (record.metrics[split] or {}).get("values") or {}
