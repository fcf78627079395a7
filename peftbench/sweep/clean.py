"""`peftbench clean`: deletes what no run needs any more from a results folder, also while others run there.

- `claims/`: the files by which runs were owned, that nobody holds;
- `unfinished/`: states of runs that are recorded;
- `logs/`: of runs that ended longer ago than `older_than`;
- `cache/`, if `cache=true`: entries that weren't used for as long.

Records, predictions and adapters stay. What is in use is told by the kernel's locks, which an owner's death frees, and
by time: nothing is deleted that changed after the oldest of the runs and sweeps began that are alive.
"""

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.filesize import decimal

from peftbench.config import arguments
from peftbench.errors import ConfigError
from peftbench.results import activity, announcements, store
from peftbench.results.reading import read
from peftbench.results.records import RunRecord
from peftbench.sweep import terminal
from peftbench.system import cached, files

_DEFAULTS = {"older_than": "7d", "cache": "false", "dry_run": "false"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
#: Seconds by which clocks of a network's machines may differ.
_CLOCKS_S = 60.0
#: Paths that are named, of each kind.
_NAMED = 10


@dataclass
class Sweepings:
    """The files of one kind that are deleted: paths and bytes. `dry`: none is."""

    kind: str
    dry: bool
    paths: list[Path] = field(default_factory=list)
    bytes: int = 0

    def delete(self, path: Path) -> None:
        """Delete a file, or a folder with all that is in it; what can't be deleted isn't counted."""
        size = _size(path)
        with contextlib.suppress(OSError):
            if not self.dry:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self.paths.append(path)
            self.bytes += size


def main(words: Sequence[str]) -> int:
    """Delete, and say what and how many bytes."""
    options = arguments.options("clean", words, **_DEFAULTS)
    root, dry = Path(options["results_dir"]), arguments.switch(options, "dry_run")
    age, caches = _seconds(options["older_than"]), arguments.switch(options, "cache")
    if not root.is_dir():
        raise ConfigError(f"results_dir={root}: there is no such folder; a run makes it")
    if not any((root / name).is_dir() for name in ("records", "claims")):
        raise ConfigError(f"results_dir={root}: is no results folder (it has no records/); nothing is deleted")
    swept = [*_clean(root, age, dry), *([_caches(root, _before(root, age), dry)] if caches else [])]
    for sweepings in swept:
        _say(root, sweepings)
    total, verb = sum(sweepings.bytes for sweepings in swept), "would be freed" if dry else "freed"
    terminal.console.print(f"{total} bytes ({decimal(total)}) {verb}", markup=False)
    return 0


def _clean(root: Path, age: float, dry: bool) -> list[Sweepings]:
    """Clean a results folder, and the results folder of its tuning trials within it."""
    by_kind = {kind: Sweepings(kind, dry) for kind in ("unfinished", "claims", "logs")}
    before = _before(root, age)
    for folder in (root, root / store.TRIALS):
        _unfinished(folder, by_kind["unfinished"])
        _claims(folder, by_kind["claims"])
        _logs(folder, before, by_kind["logs"])
    return list(by_kind.values())


def _before(root: Path, age: float) -> float:
    """Unix seconds: what changed later stays."""
    limit = time.time() - age
    began = [run.since for run in activity.running(root, tidy=False) if _alive(run.owner, run.updated, limit)]
    began += [sweep.started for sweep in announcements.sweeps(root) if _alive(sweep.owner, sweep.started, limit)]
    return min(limit, *(moment - _CLOCKS_S for moment in began)) if began else limit


def _alive(owner: activity.Owner, heard: float, limit: float) -> bool:
    """True if a process may still run; of another machine's, whether it was heard of since `limit`."""
    alive = owner.alive()
    return heard >= limit if alive is None else alive


def _unfinished(root: Path, sweepings: Sweepings) -> None:
    """Recorded runs' states, unless a process owns the run, or works in the folder."""
    states = _entries(root / "unfinished")
    if not states:
        return
    recorded = {file.stem: file for file in (root / "records").glob("*/*/*/*.json")}
    for folder in states:
        record = read(recorded[folder.name]) if folder.name in recorded else None
        if not isinstance(record, RunRecord) or (record.key, record.status) != (folder.name, "completed"):
            continue
        with _held(root / "claims" / f"{folder.name}.lock") as claim, _held(folder / "lock") as lock:
            if claim is not False and lock is not False:
                sweepings.delete(folder)


def _claims(root: Path, sweepings: Sweepings) -> None:
    for file in _entries(root / "claims"):
        if file.suffix == ".lock":
            with _held(file) as mine:
                if mine:
                    sweepings.delete(file)


@contextlib.contextmanager
def _held(file: Path) -> Iterator[bool | None]:
    """Hold a lock file while it is looked at; yields False where another process holds it, or it can't be told, None
    where there is no such file. Whoever opened it meanwhile sees that it has lost its name (`ResultStore.claim`)."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine = files.is_named(descriptor, file)
    except OSError:  # Held by another, or a file system without locks.
        mine = False
    try:
        yield mine
    finally:
        os.close(descriptor)


#: What `logs/` holds of ours: a command line's folder by its time, and the logs of checks beside them.
_LOG = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-[0-9a-f]+|[\w.-]+\.log")


def _logs(root: Path, before: float, sweepings: Sweepings) -> None:
    """Old logs: a command line's all together, when nothing in them has changed since."""
    for path in _entries(root / "logs"):
        if _LOG.fullmatch(path.name) and _changed(path) < before:
            sweepings.delete(path)


def _caches(root: Path, before: float, dry: bool) -> Sweepings:
    """Entries by when they were used last; without a checksum, by when they were written."""
    sweepings = Sweepings("cache", dry)
    for folder in (root / "cache", root / store.TRIALS / "cache"):
        if folder.is_symlink():
            continue
        for file in sorted(folder.rglob("*")):
            beside = cached.beside(file)
            if file.is_symlink() or not file.is_file():
                continue
            if file.name.endswith(cached.SUFFIX) and file.with_name(file.name.removesuffix(cached.SUFFIX)).exists():
                continue  # Goes with its entry.
            if max(map(_changed, filter(Path.exists, (file, beside)))) < before:
                sweepings.delete(file)
                if beside.exists():
                    sweepings.delete(beside)
    return sweepings


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder, links left out: they may lead anywhere."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if not path.is_symlink()]


def _below(path: Path) -> Iterator[Path]:
    yield path
    if path.is_dir() and not path.is_symlink():
        for folder, folders, names in os.walk(path):
            yield from (Path(folder, name) for name in (*folders, *names))


def _size(path: Path) -> int:
    return sum(int(_stat(each, "st_size")) for each in _below(path) if not each.is_dir())


def _changed(path: Path) -> float:
    """The time at which something in it changed last, in Unix seconds."""
    return max(_stat(each, "st_mtime") for each in _below(path))


def _stat(path: Path, name: str) -> float:
    try:
        return float(getattr(path.lstat(), name))
    except OSError:  # Gone in the meantime.
        return 0.0


def _say(root: Path, sweepings: Sweepings) -> None:
    verb = "would be deleted" if sweepings.dry else "deleted"
    text = f"{sweepings.kind}: {len(sweepings.paths)} {verb}, {sweepings.bytes} bytes"
    terminal.console.print(text, markup=False)
    for path in sweepings.paths[:_NAMED]:
        terminal.console.print(f"  {path.relative_to(root)}", markup=False)
    if len(sweepings.paths) > _NAMED:
        terminal.console.print(f"  and {len(sweepings.paths) - _NAMED} more")


def _seconds(text: str) -> float:
    """Seconds of `7d`."""
    matched = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smhdw])", text)
    if matched is None:
        raise ConfigError(f"older_than={text}: allowed is a number and a unit ({', '.join(_UNITS)}), as 7d")
    return float(matched.group(1)) * _UNITS[matched.group(2)]
