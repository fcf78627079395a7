"""What sweeps announce: the runs of a command line, in a small file of the results folder until all of them are done.

<results_dir>/live/sweep-<host>-<pid>.json
"""

import contextlib
import functools
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from peftbench.config.types import RunConfig
from peftbench.results import names
from peftbench.results.activity import Owner, RunActivity, Status, folder, read_all, write
from peftbench.results.key import identify
from peftbench.results.reading import doubt, key_of, read
from peftbench.results.records import RecordError, RunRecord
from peftbench.results.shapes import Count, Number, UnixTime
from peftbench.results.store import ResultStore


@dataclass(frozen=True)
class ExpectedRecord:
    """One run of a command line.

    Attributes:
        run: `key.identify` of it.
        record: where its record will be, relative to the results folder.
        tries: how many failed tries of it there were before.
        estimate_s: seconds that it is expected to take.
    """

    run: str
    record: Annotated[str, Meta(pattern=r"[^/]\.json$")]
    name: str
    tries: Count = 0
    estimate_s: Number | None = None


@dataclass(frozen=True)
class SweepActivity(Status):
    """The runs of one command line that weren't done when it began.

    Attributes:
        line: the command line.
        at_once: how many runs are made at the same time; None where a cluster decides.
        before: how many runs of the line were done when it began.
        undecided: further runs follow from the results of these; `later`: how many, at most.
    """

    PREFIX = "sweep"

    owner: Owner
    line: str
    started: UnixTime
    at_once: Count | None
    before: Count = 0
    runs: list[ExpectedRecord] = field(default_factory=list)
    undecided: bool = False
    later: Count = 0


@contextlib.contextmanager
def announced(root: str | os.PathLike[str], sweep: SweepActivity) -> Iterator[Callable[[SweepActivity], None]]:
    """Let `status` see a sweep; yields a function that takes the sweep with more runs. The file is deleted when every
    run has been tried: a file that is left says which runs weren't reached."""
    file = folder(root) / f"sweep-{socket.gethostname()}-{os.getpid()}.json"
    _forget(root, sweep)

    def announce(changed: SweepActivity) -> None:
        nonlocal sweep
        sweep = changed
        write(file, changed)

    announce(sweep)
    yield announce
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def planned(
    root: str | os.PathLike[str], runs: Sequence[tuple[RunConfig, str, str]], estimates: Sequence[float | None]
) -> list[ExpectedRecord]:
    """The expected records of runs, each given as (configuration, key, name), with its estimate in seconds. Trials have
    a results folder of their own in the sweep's."""
    expected = []
    for (config, key, name), estimate in zip(runs, estimates, strict=True):
        store = ResultStore(config.results_dir)
        record = os.path.relpath(store.record_file(config, key), root)
        expected.append(ExpectedRecord(identify(config), record, name, len(store.failures(config, key)), estimate))
    return expected


def sweeps(root: str | os.PathLike[str]) -> list[SweepActivity]:
    """The command lines that run on a folder, or stopped before their end, oldest first. The file of a stopped one is
    deleted if others have made its runs since."""
    announcements = []
    for file, sweep in read_all(root, SweepActivity):
        if isinstance(sweep, str):
            continue
        if sweep.owner.alive() is False and _made(root, sweep):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            continue
        announcements.append(sweep)
    return sorted(announcements, key=lambda sweep: sweep.started)


def unreadable(root: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The status files that can't be read (somebody else's, or another version's), each with the reason."""
    every = [*read_all(root, RunActivity), *read_all(root, SweepActivity)]
    return [(str(file.relative_to(root)), value) for file, value in every if isinstance(value, str)]


def ended(root: str | os.PathLike[str], run: ExpectedRecord, since: float) -> RunRecord | None:
    """The record of a run, or of its last failed try, made since a Unix time in seconds; None: none yet."""
    file = Path(root, run.record)
    for name in names.completed(file):
        if (changed := _changed(name)) is None:
            break
        # Some file systems keep whole seconds.
        if changed >= int(since) * 10**9 and (record := _record(name, changed)) is not None:
            return record
    tries = names.failures(file)
    return _record(tries[-1], _changed(tries[-1])) if len(tries) > run.tries else None


def _made(root: str | os.PathLike[str], sweep: SweepActivity) -> bool:
    """True if all runs of a sweep are recorded, so that the same command line would find nothing to do."""
    return not sweep.undecided and all(_completed(ended(root, run, sweep.started)) for run in sweep.runs)


def _completed(record: RunRecord | None) -> bool:
    return record is not None and record.status == "completed"


def _changed(file: Path) -> int | None:
    """The time at which a file was last changed, in Unix nanoseconds; None: the file is missing or can't be looked
    at."""
    try:
        return file.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def _forget(root: str | os.PathLike[str], sweep: SweepActivity) -> None:
    """Delete status files of crashed sweeps whose remaining runs this sweep takes over."""
    mine = {run.run for run in sweep.runs}
    for file, other in read_all(root, SweepActivity):
        if isinstance(other, str) or other.owner.alive() is not False:
            continue
        if {run.run for run in other.runs if not Path(root, run.record).is_file()} <= mine:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


@functools.lru_cache(maxsize=10_000)
def _record(file: Path, changed: int | None) -> RunRecord | None:
    record = read(file)
    if isinstance(record, RecordError) or record.status == "completed" and doubt(file, record, key_of(record)):
        return None
    # What is shown of it: all of a sweep's records stay in memory.
    dataset = {"metrics": record.config["dataset"].get("metrics", {})}
    shown = {name: getattr(record, name) for name in ("status", "error", "score", "params", "log")}
    took = (record.efficiency or {}).get("run_time_s")
    return RunRecord(key=record.key, config={"dataset": dataset}, efficiency={"run_time_s": took}, **shown)
