"""Records as rows: what was completed, what failed, what couldn't be read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.reading import doubt
from peftbench.records import RecordError, RunRecord, key_of
from peftbench.store import ResultStore

#: Groups of the configuration that describe the cell itself; the rest are settings that rows may differ in.
_CELL = ("model", "method", "dataset")
#: What is told elsewhere, or changes nothing.
_IGNORED = ("seed", "experiment", "expected")


@dataclass
class Results:
    """What a results folder holds.

    Attributes:
        completed, failed: records; a failure that a later try mended isn't among the failed.
        not_applicable: notes of runs that a sweep left out.
        unreadable: file name and reason of every file that holds no record.
        doubtful: file name and reason of every completed run's record that isn't counted, or can't be believed.
    """

    completed: list[RunRecord] = field(default_factory=list)
    failed: list[RunRecord] = field(default_factory=list)
    not_applicable: list[RunRecord] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    doubtful: list[tuple[str, str]] = field(default_factory=list)


#: Why its record isn't believed (None: it is), the record's file, the key that it should have, and itself.
_Completed = tuple[str | None, Path, str, RunRecord]


def load(root: str | os.PathLike[str]) -> Results:
    """Read every record, and change nothing: what can't be read may be on its way here, or another version's."""
    results, failures = Results(), {}
    completed: list[_Completed] = []
    for file, record in ResultStore(root).scan():
        if isinstance(record, RecordError):
            results.unreadable.append((str(file.relative_to(root)), str(record)))
        elif record.status == "completed":
            run = key_of(record)
            completed.append((doubt(file, record, run), file, run, record))
        elif record.status == "not_applicable":
            results.not_applicable.append(record)
        else:
            failures[_named(record)] = record
    _count_once(completed, results, root)
    mended = {_named(record) for record in results.completed}
    results.failed = [record for named, record in failures.items() if named not in mended]
    return results


def _count_once(completed: list[_Completed], results: Results, root: str | os.PathLike[str]) -> None:
    """Take every run once, however many files hold it: by what its record says of itself, not by its key alone. Of
    several that which can be believed, or else the first."""
    first: dict[str, tuple[Path, RunRecord]] = {}
    for why, file, run, record in sorted(completed, key=lambda entry: entry[0] is not None):
        other, counted = first.setdefault(run, (file, record))
        if counted is record:
            results.completed.append(record)
            why = None if why is None else f"{why}: counted, but a sweep would make the run anew"
        else:
            differs = "" if record.score == counted.score else ", with another score"
            why = f"the same run as {other.relative_to(root)}{differs}: not counted"
        if why is not None:
            results.doubtful.append((str(file.relative_to(root)), why))


def _named(record: RunRecord) -> tuple[str, ...]:
    """A run's key, and its cell: somebody's records may have one key for several."""
    return record.key, *(record.config[group]["name"] for group in _CELL)


def settings(record: RunRecord) -> dict[str, str]:
    """Recipe, hardware and the like of a record, flat: what two rows of one table may differ in."""
    rest = {k: v for k, v in record.config.items() if k not in (*_CELL, *_IGNORED)}
    # Which benchmarks; their questions are told beside their answers.
    rest["forgetting"] = ", ".join(rest.get("forgetting") or ()) or None
    return flat(rest)


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested value as `a.b` -> text, nulls included."""
    found: dict[str, str] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            found |= flat(part, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = str(part)
    return found
