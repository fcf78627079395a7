"""Records as rows: what was completed, what failed, what couldn't be read."""

import functools
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.results import index
from peftbench.results.folders import Folder
from peftbench.results.reading import Listed, doubt
from peftbench.results.records import RecordError, RunRecord
from peftbench.results.report import estimated
from peftbench.results.report.flattening import flat

#: Groups of the configuration that describe the cell itself; the rest are settings that rows may differ in.
_CELL = ("model", "method", "dataset")
#: Settings that are shown elsewhere, or change nothing.
_IGNORED = ("seed", "experiment", "expected", "start", "by_dataset")


@dataclass
class Results:
    """The records of a results folder, sorted by what became of the runs.

    Attributes:
        completed, failed: records; a failure that a later try mended isn't among the failed.
        not_applicable: notes of runs that a sweep left out.
        unreadable: file name and reason of every file that holds no record.
        doubtful: file name and reason of every completed run's record that isn't counted, or can't be believed.
        roots: by a completed record's `id`, the results folder that it was read from.
        findings: sayings that runs here test (`reproduction.tested.Tested`).
        estimates: by the key of a run, what its memory was estimated to be, in bytes by part.
        studies: by a completed record's `id` the study that it is of, where studies stay apart; else empty.
    """

    completed: list[RunRecord] = field(default_factory=list)
    failed: list[RunRecord] = field(default_factory=list)
    not_applicable: list[RunRecord] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    doubtful: list[tuple[str, str]] = field(default_factory=list)
    roots: dict[int, Path] = field(default_factory=dict)
    findings: list[Any] = field(default_factory=list)
    estimates: dict[str, dict[str, int]] = field(default_factory=dict)
    studies: dict[int, str] = field(default_factory=dict)


#: Why its record isn't believed (None: it is), the record's file, the key that it should have, and itself.
_Completed = tuple[str | None, str, str, RunRecord]


def load(*roots: str | os.PathLike[str], listed: Mapping[Path, Listed] | None = None, apart: bool = False) -> Results:
    """Read every record of a results folder, or of several. Changes no record: a file that can't be read may still be
    copied here, or be another version's. Many records are read with the help of an index (`results.index`).

    Args:
        listed: of a results folder what is listed under its `records/`, where that has been asked for.
        apart: each folder's runs are a study: one that two folders hold is a run of both.
    """
    results, failures, listed = Results(), {}, listed or {}
    completed: defaultdict[Path | None, list[_Completed]] = defaultdict(list)
    shown = functools.partial(_shown, roots=roots)
    folders = map(Path, roots)
    for root, (file, (record, run)) in ((one, entry) for one in folders for entry in index.scan(one, listed.get(one))):
        if isinstance(record, RecordError):
            results.unreadable.append((shown(file), str(record)))
        elif record.status == "completed":
            results.roots[id(record)] = root
            completed[root if apart else None].append((doubt(file, record, run), file, run, record))
        elif record.status == "not_applicable":
            results.not_applicable.append(record)
        else:
            failures[root if apart else None, _named(record)] = record
    for those in completed.values():
        _count_once(those, results, shown)
    results.studies = _studies(results) if apart else {}
    mended = {(results.roots[id(record)] if apart else None, _named(record)) for record in results.completed}
    results.failed = [record for named, record in failures.items() if named not in mended]
    for root in map(Path, roots):
        _beside(root, results)
    return results


def _studies(results: Results) -> dict[int, str]:
    """The name of each completed record's folder, by the record's `id`; its path where two have one name."""
    roots = dict.fromkeys(results.roots.values())
    names = [root.resolve().name for root in roots]
    called = {root: name if names.count(name) == 1 else str(root) for root, name in zip(roots, names, strict=True)}
    return {record: called[root] for record, root in results.roots.items()}


def _beside(root: Path, results: Results) -> None:
    """Read what other commands leave beside the records, of which most folders have nothing."""
    if (root / Folder.FINDINGS).is_dir():
        from peftbench.results.reproduction import tested  # Brings SciPy.

        tested_here, wrong = tested.read(root, results.completed)
        results.findings += tested_here
        results.unreadable += wrong
    if (root / Folder.ESTIMATES).is_dir():
        found_here, wrong = estimated.read(root)
        results.estimates |= found_here
        results.unreadable += wrong


def _shown(file: str, roots: Sequence[str | os.PathLike[str]]) -> str:
    """A file's name as reports show it: within its folder, which is named where there are several."""
    return file if len(roots) > 1 else str(Path(file).relative_to(roots[0]))


def _count_once(completed: list[_Completed], results: Results, shown: Callable[[str], str]) -> None:
    """Count every run once, however many files hold it. Runs are told apart by the key that follows from the record
    (`key_of`), not by the key that stands in it. Of several files the one that is believed counts, or else the
    first."""
    first: dict[str, tuple[str, RunRecord]] = {}
    for why, file, run, record in sorted(completed, key=lambda entry: entry[0] is not None):
        other, counted = first.setdefault(run, (file, record))
        if counted is record:
            results.completed.append(record)
            why = None if why is None else f"{why}: counted, but a sweep would make the run anew"
        else:
            differs = "" if record.score == counted.score else ", with another score"
            why = f"the same run as {shown(other)}{differs}: not counted"
        if why is not None:
            results.doubtful.append((shown(file), why))


def _named(record: RunRecord) -> tuple[str, ...]:
    """A run's key and the names of its cell: records that somebody edited may share a key."""
    return record.key, *(record.config[group]["name"] for group in _CELL)


def is_tunable(record: RunRecord) -> bool:
    """False of a run that has nothing to tune (the majority class): it was allowed as many trials as any other."""
    config = record.config
    return bool(config.get("tune") or config["method"].get("search") or config.get("tune_space"))


def settings(record: RunRecord) -> dict[str, str]:
    """A record's settings (recipe, hardware, ...), flat: what two rows of one table may differ in."""
    rest = {k: v for k, v in record.config.items() if k not in (*_CELL, *_IGNORED)}
    asked = rest.get("evaluation") or {}
    rest["evaluation"] = ", ".join([*asked.get("perturbations", ()), f"seed {asked.get('seed')}"]) if asked else None
    # Which benchmarks; their questions are told beside their answers.
    rest["forgetting"] = ", ".join(rest.get("forgetting") or ()) or None
    return flat(rest)
