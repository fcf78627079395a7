"""What a single score leaves out: every metric on every evaluation split, and the averages of benchmark suites.

GLUE (arXiv 1804.07461, section 3) and SuperGLUE (arXiv 1905.00537, section 3) average a task's metrics first, then the
tasks; GLUE counts MNLI as the mean of its two evaluation splits. A data set's file says which suite it is a part of.
"""

import functools
import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peftbench import paths
from peftbench.records import RunRecord

#: (method, model, variant).
RowName = tuple[str, str, str]
#: Records by their data set's name, and by what tells other data of that name apart.
_Data = dict[str, dict[str, list[RunRecord]]]


@dataclass(frozen=True)
class Suite:
    """A row's average over a suite as a fraction; None where data sets or splits of it are `missing`."""

    mean: float | None
    missing: list[str]


@functools.cache
def members() -> dict[str, list[str]]:
    """By suite the data sets that are a part of it, read off their files."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in sorted(paths.choice_files("dataset").items()):
        # Not parsed: that would take longer than the rest of a report.
        said = re.search(r"^suite: *(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if said:
            found[said[1]].append(name)
    return dict(found)


def averages(
    records: Iterable[RunRecord], rows: Mapping[int, RowName], columns: Mapping[int, str]
) -> dict[str, dict[RowName, Suite]]:
    """By suite and row. A suite of which the records hold one data set alone is left out.

    Other data than a suite's that have the name of one of its data sets (one's own file) aren't in its average. Where a
    name stands for several data all the same, nothing says which are the suite's: none is averaged, in any row.

    Args:
        rows, columns: by a record's `id` the names of its row and of its data.
    """
    found: dict[str, _Data] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for record in records:
        name = record.config["dataset"]["name"]
        for suite in _suites(record):
            found[suite][name][columns[id(record)]].append(record)
    return {
        suite: {row: _average(found[suite], names, rows, row) for row in sorted(set(rows.values()))}
        for suite, names in members().items()
        if len(found[suite].keys() & set(names)) > 1
    }


def left_out(records: Iterable[RunRecord]) -> list[str]:
    """A line for every name of a suite's data set under which there are runs that aren't in its average."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        name = record.config["dataset"]["name"]
        for suite in (suite for suite, names in members().items() if name in names and suite not in _suites(record)):
            found[name, suite] += 1
    return [
        f"{name}: {n} run{'s' if n != 1 else ''} on other data of that name, which the average of {suite} leaves out"
        for (name, suite), n in sorted(found.items())
    ]


def _suites(record: RunRecord) -> list[str]:
    """The suites that a record's data set is said to be of; of an older one, which doesn't say, those of its name, but
    for one's own file."""
    dataset = record.config["dataset"]
    if "suite" in dataset:
        return [dataset["suite"]] if dataset["suite"] is not None else []
    own = dataset.get("format") is not None
    return [suite for suite, names in members().items() if dataset["name"] in names and not own]


def _average(data: _Data, names: Iterable[str], rows: Mapping[int, RowName], row: RowName) -> Suite:
    """A row's over the data sets of a suite, each with its runs (seeds).

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
    """Of a split, sorted: the last digit of a mean mustn't depend on the order."""
    found = [(record.metrics.get(split) or {}).get("score") for record in records]
    return sorted(score for score in found if score is not None)


def details(
    records: Iterable[RunRecord], rows: Mapping[int, RowName], columns: Mapping[int, str]
) -> dict[str, dict[RowName, list[float]]]:
    """Every metric of data sets that have more than one, or more than one evaluation split: by heading and row, a
    value a run."""
    found: dict[str, dict[RowName, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        splits = [s for s in record.config["dataset"]["evaluation"] if record.metrics.get(s)]
        values = {(split, name): v for split in splits for name, v in _values(record, split).items()}
        for (split, name), value in values.items():
            if len(values) > 1 and value is not None:
                where = f"{columns[id(record)]}{f' {split}' if len(splits) > 1 else ''} {name}"
                found[where][rows[id(record)]].append(value)
    return {heading: dict(of) for heading, of in sorted(found.items())}


def _values(record: RunRecord, split: str) -> dict[str, float | None]:
    return (record.metrics[split] or {}).get("values") or {}
