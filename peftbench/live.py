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
from typing import TYPE_CHECKING, Any

from peftbench import fingerprint
from peftbench.folders import Folder
from peftbench.records import RunRecord
from peftbench.store import ResultStore, read

if TYPE_CHECKING:  # The schema brings OmegaConf, which watching does without.
    from peftbench.schema import RunConfig

#: Where the records of trials are, under the results folder: they are no rows of a leaderboard.
TRIALS = str(Folder.TRIALS)
#: Seconds between two writings of a run's state.
_EVERY_S = 0.5


@dataclass(frozen=True)
class Owner:
    """The process that a file speaks for; `born` tells it from a later one with its number."""

    host: str
    pid: int
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
    since: float
    updated: float
    phase: str = "starting"
    step: int | None = None
    steps: int | None = None
    loss: float | None = None
    score: float | None = None
    beside: int = 0

    def left_s(self) -> float | None:
        """Seconds that the rest of training takes at the pace so far."""
        if not self.step or self.steps is None:
            return None
        return (self.updated - self.since) * (self.steps - self.step) / self.step


@dataclass(frozen=True)
class Planned:
    """One run of a command line: its identity, where its record will be, what it is called, how long it may take."""

    run: str
    record: str
    name: str
    tries: int = 0
    estimate_s: float | None = None


@dataclass(frozen=True)
class Sweep:
    """The runs of one command line that weren't done when it began, and how many were. `at_once` is None where a
    cluster decides. `undecided`: further runs follow from the results of these."""

    owner: Owner
    line: str
    started: float
    at_once: int | None
    before: int = 0
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
        told = {k: v for k, v in event.items() if k in ("phase", "step", "steps", "loss", "score")}
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


def running(root: str | os.PathLike[str]) -> list[Running]:
    """What is being made on a results folder, oldest first; files that dead processes left are deleted."""
    found = []
    for file, value in _files(root, "run-*.json"):
        state = _state(value)
        if state is None or state.owner.alive() is False:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        else:
            found.append(state)
    return sorted(found, key=lambda state: (state.since, state.name))


def beside(root: str | os.PathLike[str]) -> int | None:
    """In the process of a run: how many others were seen beside it (`Running.beside`); None: nobody looked."""
    parent = multiprocessing.parent_process()
    mine = [state for state in running(root) if parent is not None and state.owner.pid == parent.pid]
    return mine[0].beside if mine else None


def sweeps(root: str | os.PathLike[str]) -> list[Sweep]:
    """The command lines that run on a folder, or stopped before their end, oldest first. Of one that was stopped, and
    whose runs others have made since, the file is deleted."""
    found = []
    for file, value in _files(root, "sweep-*.json"):
        with contextlib.suppress(KeyError, TypeError):
            runs = [Planned(**run) for run in value.pop("runs")]
            sweep = Sweep(owner=Owner(**value.pop("owner")), runs=runs, **value)
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
    with contextlib.suppress(FileNotFoundError):
        stat = file.stat()
        if stat.st_mtime >= int(since):  # Some file systems keep whole seconds.
            return _record(file, stat.st_mtime_ns)
    tries = sorted(file.parent.glob(f"{file.stem}.failed-*.json"), key=lambda f: int(f.stem.rpartition("-")[2]))
    return _record(tries[-1], tries[-1].stat().st_mtime_ns) if len(tries) > run.tries else None


def _forget(root: str | os.PathLike[str], sweep: Sweep) -> None:
    """Delete files of dead sweeps that this one goes on with."""
    mine = {run.run for run in sweep.runs}
    for file, value in _files(root, "sweep-*.json"):
        with contextlib.suppress(KeyError, TypeError, OSError):
            left = {run["run"] for run in value["runs"] if not Path(root, run["record"]).is_file()}
            if left <= mine and Owner(**value["owner"]).alive() is False:
                file.unlink(missing_ok=True)


@functools.cache
def _record(file: Path, mtime_ns: int) -> RunRecord | None:
    found = read(file)
    return found if isinstance(found, RunRecord) else None


def _folder(root: str | os.PathLike[str]) -> Path:
    return Path(root, Folder.LIVE)


def _files(root: str | os.PathLike[str], pattern: str) -> Iterator[tuple[Path, Any]]:
    """Files and what is in them; those of trials, which have a results folder in the results folder, too."""
    folders = (_folder(root), _folder(Path(root, TRIALS)))
    for file in (file for folder in folders for file in sorted(folder.glob(pattern))):
        with contextlib.suppress(OSError, ValueError):
            yield file, json.loads(file.read_bytes())


def _state(value: Any) -> Running | None:
    try:
        return Running(owner=Owner(**value.pop("owner")), **value)
    except (KeyError, TypeError, AttributeError):
        return None


def _write(file: Path, value: Running | Sweep) -> None:
    temporary = file.with_name(f".{file.name}.tmp")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(asdict(value)), encoding="utf-8")
        os.replace(temporary, file)


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
