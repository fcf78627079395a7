"""What a single score leaves out: every metric on every evaluation split, and the averages of benchmark suites.

GLUE (arXiv 1804.07461, section 3) and SuperGLUE (arXiv 1905.00537, section 3) average a task's metrics first, then the
tasks; GLUE counts MNLI as the mean of its two evaluation splits. A data set's file says which suite it is a part of.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from peftbench import paths
from peftbench.records import RunRecord

#: (method, model, variant).
RowName = tuple[str, str, str]


@dataclass(frozen=True)
class Suite:
    """A row's average over a suite as a fraction; None where data sets or splits of it are `missing`."""

    mean: float | None
    missing: list[str]


def members() -> dict[str, list[str]]:
    """By suite the data sets that are a part of it, read off their files."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, file in sorted(paths.choice_files("dataset").items()):
        # Not parsed: that would take longer than the rest of a report.
        said = re.search(r"^suite: *(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        if said:
            found[said[1]].append(name)
    return dict(found)


def averages(records: Iterable[RunRecord], rows: Mapping[str, RowName]) -> dict[str, dict[RowName, Suite]]:
    """By suite and row. A suite of which the records hold one data set alone is left out.

    Args:
        rows: by record key.
    """
    found: dict[tuple[RowName, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        found[rows[record.key], record.config["dataset"]["name"]].append(record)
    present = {name for _, name in found}
    return {
        suite: {
            row: _average({name: found.get((row, name), []) for name in names}) for row in sorted(set(rows.values()))
        }
        for suite, names in members().items()
        if len(present & set(names)) > 1
    }


def _average(runs: Mapping[str, list[RunRecord]]) -> Suite:
    """Over the data sets of a suite, each with its runs (seeds)."""
    tasks: list[float] = []
    missing: list[str] = []
    for name, records in runs.items():
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
    records: Iterable[RunRecord], rows: Mapping[str, RowName], columns: Mapping[str, str]
) -> dict[str, dict[RowName, list[float]]]:
    """Every metric of data sets that have more than one, or more than one evaluation split: by heading and row, a
    value a run."""
    found: dict[str, dict[RowName, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        splits = [s for s in record.config["dataset"]["evaluation"] if record.metrics.get(s)]
        values = {(split, name): v for split in splits for name, v in _values(record, split).items()}
        for (split, name), value in values.items():
            if len(values) > 1 and value is not None:
                where = f"{columns[record.key]}{f' {split}' if len(splits) > 1 else ''} {name}"
                found[where][rows[record.key]].append(value)
    return {heading: dict(of) for heading, of in sorted(found.items())}


def _values(record: RunRecord, split: str) -> dict[str, float | None]:
    return (record.metrics[split] or {}).get("values") or {}
