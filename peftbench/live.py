"""What is going on in a results folder, through small files: who runs what and how far it is. Free of torch.

<results_dir>/live/run-<host>-<pid>.json    what a process runs now
<results_dir>/live/sweep-<host>-<pid>.json  the runs of a command line, until all of them are done

Nothing here is needed for a result: where these files can't be written, runs are made all the same.
"""

import contextlib
import functools
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from peftbench import files, fingerprint, redact
from peftbench.folders import Folder
from peftbench.reading import doubt, failures, names, read
from peftbench.records import RecordError, RunRecord, key_of
from peftbench.shapes import Count, Number, UnixTime, finite
from peftbench.store import ResultStore

if TYPE_CHECKING:  # The schema brings OmegaConf, which watching does without.
    from peftbench.schema import RunConfig

T = TypeVar("T")

#: Where the records of trials are, under the results folder: they are no rows of a leaderboard.
TRIALS = str(Folder.TRIALS)
#: Seconds between two writings of a run's state.
_EVERY_S = 0.5


@dataclass(frozen=True)
class Owner:
    """The process that a file speaks for; `born` tells it from a later one with its number."""

    host: str
    pid: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    born: str | None

    def alive(self) -> bool | None:
        """Whether it still runs; None where that can't be known from here."""
        if self.host != socket.gethostname():
            return None
        return self.born == _born(self.pid) and (self.born is not None or _exists(self.pid))


@dataclass(frozen=True)
class Running:
    """A run that is being made: where it is, its last loss and selection score, times as Unix seconds.

    `beside` is the most other runs that were seen being made on this folder from the same machine meanwhile.
    """

    owner: Owner
    run: str
    name: str
    since: UnixTime
    updated: UnixTime
    phase: str = "starting"
    step: Count | None = None
    steps: Count | None = None
    loss: Number | None = None
    score: Number | None = None
    beside: Count = 0

    def left_s(self) -> float | None:
        """Seconds that the rest of training takes at the pace so far."""
        if not self.step or self.steps is None:
            return None
        return (self.updated - self.since) * (self.steps - self.step) / self.step


@dataclass(frozen=True)
class Planned:
    """One run of a command line: its identity, where its record will be, what it is called, how long it may take."""

    run: str
    record: Annotated[str, Meta(pattern=r"[^/]\.json$")]
    name: str
    tries: Count = 0
    estimate_s: Number | None = None


@dataclass(frozen=True)
class Sweep:
    """The runs of one command line that weren't done when it began, and how many were. `at_once` is None where a
    cluster decides. `undecided`: further runs follow from the results of these."""

    owner: Owner
    line: str
    started: UnixTime
    at_once: Count | None
    before: Count = 0
    runs: list[Planned] = field(default_factory=list)
    undecided: bool = False


def me() -> Owner:
    """This process."""
    return Owner(socket.gethostname(), os.getpid(), _born(os.getpid()))


def identify(config: "RunConfig") -> str:
    """What tells runs apart here: as a record's key, but without looking at data and model."""
    from peftbench import schema

    return fingerprint.of_json(schema.identity(config))[:20]


@contextlib.contextmanager
def reporting(config: "RunConfig", name: str) -> Iterator[Callable[[dict[str, Any]], Running]]:
    """Keeps this process's file up to date; yields what takes a run's events and returns its state."""
    now = time.time()
    file = _folder(config.results_dir) / f"run-{socket.gethostname()}-{os.getpid()}.json"
    state, written = Running(me(), identify(config), name, since=now, updated=now), 0.0

    def on_event(event: dict[str, Any]) -> Running:
        nonlocal state, written
        now = time.time()
        told = {k: finite(v) for k, v in event.items() if k in ("phase", "step", "steps", "loss", "score")}
        if state.step is None and "step" in told:
            told |= {"since": now, "phase": "training"}
        state = replace(state, updated=now, **told)
        if "phase" in told or now - written >= _EVERY_S:
            others = sum(other.owner.host == state.owner.host for other in running(config.results_dir)) - 1
            state = replace(state, beside=max(state.beside, others))
            written = now
            _write(file, state)
        return state

    _write(file, state)
    try:
        yield on_event
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def announced(root: str | os.PathLike[str], sweep: Sweep) -> Iterator[Callable[[Sweep], None]]:
    """Lets `status` see a sweep; yields what takes it with more runs. The file goes when every run has been tried: one
    that is left says what wasn't reached."""
    file = _folder(root) / f"sweep-{socket.gethostname()}-{os.getpid()}.json"
    _forget(root, sweep)

    def announce(changed: Sweep) -> None:
        nonlocal sweep
        sweep = changed
        _write(file, changed)

    announce(sweep)
    yield announce
    with contextlib.suppress(OSError):
        file.unlink(missing_ok=True)


def running(root: str | os.PathLike[str], *, tidy: bool = True) -> list[Running]:
    """What is being made on a results folder, oldest first; files that dead processes left are deleted, if `tidy`."""
    found = []
    for file, state in _files(root, Running):
        if isinstance(state, str):
            continue
        if state.owner.alive() is False:
            if not tidy:
                continue
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        else:
            found.append(state)
    return sorted(found, key=lambda state: (state.since, state.name))


def unreadable(root: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """The files here that hold nothing that can be read, and why: somebody else's, or another version's."""
    every = [*_files(root, Running), *_files(root, Sweep)]
    return [(str(file.relative_to(root)), value) for file, value in every if isinstance(value, str)]


def beside(root: str | os.PathLike[str]) -> int | None:
    """In the process of a run: how many others were seen beside it (`Running.beside`); None: nobody looked."""
    parent = multiprocessing.parent_process()
    mine = [state for state in running(root) if parent is not None and state.owner.pid == parent.pid]
    return mine[0].beside if mine else None


def sweeps(root: str | os.PathLike[str]) -> list[Sweep]:
    """The command lines that run on a folder, or stopped before their end, oldest first. Of one that was stopped, and
    whose runs others have made since, the file is deleted."""
    found = []
    for file, sweep in _files(root, Sweep):
        if isinstance(sweep, str):
            continue
        if sweep.owner.alive() is False and _made(root, sweep):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
            continue
        found.append(sweep)
    return sorted(found, key=lambda sweep: sweep.started)


def _made(root: str | os.PathLike[str], sweep: Sweep) -> bool:
    """Whether nothing is left of a sweep that the same line would go on with: all of its runs are recorded."""
    return not sweep.undecided and all(_completed(ended(root, run, sweep.started)) for run in sweep.runs)


def _completed(record: RunRecord | None) -> bool:
    return record is not None and record.status == "completed"


def ended(root: str | os.PathLike[str], run: Planned, since: float) -> RunRecord | None:
    """The record of a run, or of its last failed try, made since then; None: none yet."""
    file = Path(root, run.record)
    for name in names(file):
        if (changed := _changed(name)) is None:
            break
        # Some file systems keep whole seconds.
        if changed >= int(since) * 10**9 and (record := _record(name, changed)) is not None:
            return record
    tries = failures(file)
    return _record(tries[-1], _changed(tries[-1])) if len(tries) > run.tries else None


def _changed(file: Path) -> int | None:
    """When a file was changed, in Unix nanoseconds; None: there is none, or none that can be looked at."""
    try:
        return file.stat().st_mtime_ns
    except (OSError, ValueError):
        return None


def _forget(root: str | os.PathLike[str], sweep: Sweep) -> None:
    """Delete files of dead sweeps that this one goes on with."""
    mine = {run.run for run in sweep.runs}
    for file, other in _files(root, Sweep):
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


def _folder(root: str | os.PathLike[str]) -> Path:
    return Path(root, Folder.LIVE)


#: What is kept here, by the first word of its file's name; and the bytes that such a file may have.
_PREFIXES: dict[type, str] = {Running: "run", Sweep: "sweep"}
_LARGEST = 64 << 20


def _files(root: str | os.PathLike[str], kind: type[T]) -> Iterator[tuple[Path, T | str]]:
    """Files and what is in them, or why it can't be read; those of trials, which have a results folder in the results
    folder, too."""
    folders = (_folder(root), _folder(Path(root, TRIALS)))
    for file in (file for folder in folders for file in sorted(folder.glob(f"{_PREFIXES[kind]}-*.json"))):
        try:
            yield file, msgspec.json.decode(files.read_plain(file, most=_LARGEST), type=kind)
        except FileNotFoundError:  # Its process has ended meanwhile.
            continue
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            yield file, f"can't be read ({getattr(error, 'strerror', None) or error})"


def _write(file: Path, value: Running | Sweep) -> None:
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = files.temporary(file)
        try:
            # A command line may hold what no encoding has.
            text = json.dumps(_shown(asdict(value)), ensure_ascii=False)
            temporary.write_bytes(text.encode("utf-8", "replace"))
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def _shown(value: dict[str, Any]) -> dict[str, Any]:
    """Without secrets in what people wrote. Paths and identities are looked up by others and stay."""
    written: dict[str, Any] = {name: redact.data(value[name]) for name in ("name", "line") if name in value}
    runs = {"runs": [_shown(run) for run in value["runs"]]} if "runs" in value else {}
    return {**value, **written, **runs}


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's ticks; None where the kernel doesn't say."""
    try:
        # After the name, which may hold anything: state is field 3, the start is field 22.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def planned(
    root: str | os.PathLike[str], runs: Sequence[tuple["RunConfig", str, str]], estimates: Sequence[float | None]
) -> list[Planned]:
    """(configuration, key, name) of runs as a sweep's; trials have a results folder of their own in the sweep's."""
    found = []
    for (config, key, name), estimate in zip(runs, estimates, strict=True):
        store = ResultStore(config.results_dir)
        record = os.path.relpath(store.record_file(config, key), root)
        found.append(Planned(identify(config), record, name, len(store.failures(config, key)), estimate))
    return found
