"""Records as rows: what was completed, what failed, what couldn't be read."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.records import RecordError, RunRecord
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
    """

    completed: list[RunRecord] = field(default_factory=list)
    failed: list[RunRecord] = field(default_factory=list)
    not_applicable: list[RunRecord] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def load(root: str | os.PathLike[str]) -> Results:
    """Read every record; a corrupt file is renamed to `<name>.corrupt`, where nothing reads it again."""
    results, failures = Results(), {}
    for file, record in ResultStore(root).scan():
        if isinstance(record, RecordError):
            done = f"; {_set_aside(file)}" if record.corrupt else ""
            results.unreadable.append((str(file.relative_to(root)), f"{record}{done}"))
        elif record.status == "completed":
            results.completed.append(record)
        elif record.status == "not_applicable":
            results.not_applicable.append(record)
        else:
            failures[record.key] = record
    mended = {record.key for record in results.completed}
    results.failed = [record for key, record in failures.items() if key not in mended]
    return results


def _set_aside(file: Path) -> str:
    target = file.with_name(f"{file.name}.corrupt")
    with contextlib.suppress(OSError):
        os.replace(file, target)
        return f"set aside as {target.name}"
    return "left in place, as the folder can't be written"


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
