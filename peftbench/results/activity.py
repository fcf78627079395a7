"""What a process reports of the run that it makes, in a small status file of the results folder.

<results_dir>/live/run-<host>-<pid>.json

Nothing here is needed for a result: where these files can't be written, runs are made all the same. How status files
are written and read, those of `announcements` too, is at the end.
"""

import contextlib
import json
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import msgspec
from msgspec import Meta

from peftbench.config.types import RunConfig
from peftbench.results.folders import Folder
from peftbench.results.key import identify
from peftbench.results.shapes import Count, Number, UnixTime, finite
from peftbench.system import files, redact

#: Seconds between two writings of a run's state.
_EVERY_S = 0.5
#: What of a run's events its state has.
_REPORTED = ("phase", "step", "steps", "loss", "score", "batch", "batches")


@dataclass(frozen=True)
class Owner:
    """The process that a status file speaks for; `born` (`_born`) tells it from a later process with the same pid."""

    host: str
    pid: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    born: str | None

    def alive(self) -> bool | None:
        """True if the process still runs; None where that can't be known from this host."""
        if self.host != socket.gethostname():
            return None
        return self.born == _born(self.pid) and (self.born is not None or _exists(self.pid))


@dataclass(frozen=True)
class Status:
    """The content of a status file. `PREFIX` is the first word of the file's name."""

    PREFIX: ClassVar[str]


S = TypeVar("S", bound=Status)


@dataclass(frozen=True)
class RunActivity(Status):
    """A run that is being made: where it is, its last loss and selection score, times as Unix seconds.

    `batch` of `batches` are done in a phase that isn't training, where it counts them.

    `beside` is the most other runs that were seen being made on this folder from the same machine meanwhile.
    """

    PREFIX = "run"

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
    batch: Count | None = None
    batches: Count | None = None
    beside: Count = 0

    def left_s(self) -> float | None:
        """Seconds that the rest of training takes at the pace so far."""
        if not self.step or self.steps is None:
            return None
        return (self.updated - self.since) * (self.steps - self.step) / self.step


def me() -> Owner:
    """This process."""
    return Owner(socket.gethostname(), os.getpid(), _born(os.getpid()))


@contextlib.contextmanager
def reporting(config: RunConfig, name: str) -> Iterator[Callable[[dict[str, Any]], RunActivity]]:
    """Keep this process's status file up to date; yields a function that takes a run's events and returns its state."""
    now = time.time()
    file = folder(config.results_dir) / f"run-{socket.gethostname()}-{os.getpid()}.json"
    state, written = RunActivity(me(), identify(config), name, since=now, updated=now), 0.0

    def on_event(event: dict[str, Any]) -> RunActivity:
        nonlocal state, written
        now = time.time()
        changes = {k: finite(v) for k, v in event.items() if k in _REPORTED}
        if "phase" in changes:
            changes |= {"batch": None, "batches": None}
        if state.step is None and "step" in changes:
            changes |= {"since": now, "phase": "training"}
        state = replace(state, updated=now, **changes)
        if "phase" in changes or now - written >= _EVERY_S:
            others = sum(other.owner.host == state.owner.host for other in running(config.results_dir)) - 1
            state = replace(state, beside=max(state.beside, others))
            written = now
            write(file, state, durable=False)
        return state

    write(file, state, durable=False)
    try:
        yield on_event
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)


def running(root: str | os.PathLike[str], *, tidy: bool = True) -> list[RunActivity]:
    """The runs that are being made on a results folder, oldest first. `tidy`: delete status files of dead processes."""
    states = []
    for file, state in read_all(root, RunActivity):
        if isinstance(state, str):
            continue
        if state.owner.alive() is False:
            if not tidy:
                continue
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
        else:
            states.append(state)
    return sorted(states, key=lambda state: (state.since, state.name))


def beside(root: str | os.PathLike[str]) -> int | None:
    """`RunActivity.beside` of the run that this process is the child for; None: its parent doesn't report."""
    parent = multiprocessing.parent_process()
    mine = [state for state in running(root) if parent is not None and state.owner.pid == parent.pid]
    return mine[0].beside if mine else None


def folder(root: str | os.PathLike[str]) -> Path:
    """The folder of status files in a results folder."""
    return Path(root, Folder.LIVE)


#: Bytes that a status file may have.
_LARGEST = 64 << 20


def read_all(root: str | os.PathLike[str], kind: type[S]) -> Iterator[tuple[Path, S | str]]:
    """Every status file of a kind with its content, or with the reason why it can't be read. Trials have a results
    folder in the results folder: theirs are among them."""
    folders = (folder(root), folder(Path(root, Folder.TRIALS)))
    for file in (file for place in folders for file in sorted(place.glob(f"{kind.PREFIX}-*.json"))):
        try:
            yield file, msgspec.json.decode(files.read_plain(file, most=_LARGEST), type=kind)
        except FileNotFoundError:  # Its process has ended meanwhile.
            continue
        except (OSError, ValueError, RecursionError, MemoryError) as error:
            yield file, f"can't be read ({getattr(error, 'strerror', None) or error})"


def write(file: Path, value: Status, *, durable: bool = True) -> None:
    """Replace a status file; where it can't be written, nothing happens.

    Args:
        durable: as `files.write` has it. A run's state is written twice a second, and is of no use once the machine has
            gone down; the announcement of a sweep tells then what wasn't reached.
    """
    # A command line may hold what no encoding has.
    text = json.dumps(_shown(asdict(value)), ensure_ascii=False).encode("utf-8", "replace")
    with contextlib.suppress(OSError):
        files.write(file, lambda temporary: temporary.write_bytes(text), durable=durable)


def _shown(value: dict[str, Any]) -> dict[str, Any]:
    """The value with secrets redacted in what people wrote. Paths and identities stay: others look them up."""
    written: dict[str, Any] = {name: redact.data(value[name]) for name in ("name", "line") if name in value}
    runs = {"runs": [_shown(run) for run in value["runs"]]} if "runs" in value else {}
    return {**value, **written, **runs}


def _born(pid: int) -> str | None:
    """The time at which a process started, in the kernel's ticks; None where the kernel doesn't say."""
    try:
        # proc(5): behind the name, which may hold anything, the state is field 3 and the start field 22.
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
