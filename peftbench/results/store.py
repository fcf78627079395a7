"""`ResultStore`: records on disk, one JSON file each, written once, safe for many writers.

<results_dir>/records/<dataset>/<model>/<method>/<key>.json             a completed run
<results_dir>/records/<dataset>/<model>/<method>/<key>.failed-<n>.json  a failed try
<results_dir>/records/<dataset>/<model>/<method>/<key>.beside-<n>.json  a completed run whose name was taken
<results_dir>/records/<dataset>/<model>/<method>/<key>.not-applicable.json  why a sweep left a run out
<results_dir>/predictions/... .parquet, curves/... .parquet, adapters/...  beside it, not in version control
<results_dir>/unfinished/<key>/                                         the state of a run that hasn't ended
"""

import contextlib
import fcntl
import functools
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results import curves, folders, names, reading
from peftbench.results.curves import Point
from peftbench.results.folders import Folder
from peftbench.results.reading import LARGEST, home, json_files, read
from peftbench.results.records import RecordError, RunRecord
from peftbench.system import cached, files, fingerprint, redact

_log = logging.getLogger(__name__)

#: A run's record in its own folder, until it is put.
_ENDED = "record.json"


@dataclass(frozen=True)
class Places:
    """The places where one run may write.

    Attributes:
        unfinished: its state until its record is there.
    """

    adapter: Path
    predictions: Path
    curve: Path
    unfinished: Path
    cache: Path


class ResultStore:
    """The records under one results folder."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def places(self, config: RunConfig, key: str) -> Places:
        """The paths of a run's own files."""
        cell = _cell(config)
        return Places(
            adapter=self.root / Folder.ADAPTERS / cell / key,
            predictions=self.root / Folder.PREDICTIONS / cell / f"{key}.parquet",
            curve=self.root / Folder.CURVES / cell / f"{key}.parquet",
            unfinished=self.root / Folder.UNFINISHED / key,
            cache=self.cache,
        )

    def curve(self, record: RunRecord) -> list[Point] | None:
        """The learning curve of a run, at most 200 points by step; None where none was kept, or it can't be read."""
        parts = [*(record.config[group]["name"] for group in ("dataset", "model", "method")), f"{record.key}.parquet"]
        if any(Path(part).name != part for part in parts):  # A record from elsewhere may name any path.
            return None
        return curves.read(self.root.joinpath(Folder.CURVES, *parts))

    @staticmethod
    def weights_of(record: Path) -> Path | None:
        """The folder of the weights of the run whose record is this file; None: the file is in no results folder."""
        where = record.absolute()
        if len(where.parents) < 5:
            return None
        return where.parents[4] / Folder.ADAPTERS / Path(*where.parts[-4:-1]) / names.key_in(record)

    @property
    def cache(self) -> Path:
        """The folder of generated data and tokenised sets."""
        return self.root / Folder.CACHE

    def check_writable(self, configs: Sequence[RunConfig] = ()) -> None:
        """Raises ConfigError if something can't be written where these runs will, under the results folder."""
        folders.check_writable(self.root, {_cell(config) for config in configs})

    def completed(self, config: RunConfig, key: str) -> bool:
        """True if a record that can be believed (`reading.home`) says that this run is completed."""
        return home(self._file(config, key)) is not None

    def put(self, config: RunConfig, record: RunRecord) -> Path:
        """Write a record once, all of it or nothing, and leave it on the disk before returning.

        The file gets its name by a hard link: unlike a rename, that never overwrites another writer's record. A failed
        try gets the next free number. `overwrite=true` is the one case that replaces a completed record. A file of that
        name that holds something else (a copy that is under way, a record of another version) stays as it is, and the
        record gets a name beside it.
        """
        target = self._file(config, record.key)
        files.make_folder(target.parent)
        temporary = files.temporary(target)
        try:
            temporary.write_text(_text(record), encoding="utf-8")
            files.sync(temporary)
            if record.status == "completed":
                target = _complete(temporary, target, record, overwrite=config.overwrite)
            else:
                target = names.give_failed(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        files.sync(target.parent)
        return target

    def put_not_applicable(self, config: RunConfig, key: str, reason: str | None) -> None:
        """Write a note of why a run was left out; None deletes an old note."""
        target = names.not_applicable(self._file(config, key))
        if reason is None:
            target.unlink(missing_ok=True)
            return
        record = RunRecord(key=key, status="not_applicable", error=reason, config=identity.description(config))
        files.write(target, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))

    def ended(self, config: RunConfig, key: str) -> RunRecord | None:
        """The record of a run that had ended when its parent was stopped, before it could be put."""
        record = read(self.root / Folder.UNFINISHED / key / _ENDED)
        believed = isinstance(record, RunRecord) and record.key == key and record.status == "completed"
        return record if believed and reading.key_of(record) == key else None  # type: ignore[arg-type,return-value]

    def tidy(self, config: RunConfig, key: str) -> None:
        """Delete the files that killed processes have left of a completed run, unless another process owns the run."""
        places = self.places(config, key)
        own = (self._file(config, key), places.adapter, places.predictions, places.curve)
        folders = [path.parent for path in own]
        left = [folder / name for folder in folders for name in _temporary(folder) if name.startswith(f".{key}.")]
        if not left and not places.unfinished.exists():
            return
        with self.claim(key) as owned:
            if owned:
                self.forget(key)
                for path in left:
                    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def forget(self, key: str) -> None:
        """Delete the state of a run."""
        shutil.rmtree(self.root / Folder.UNFINISHED / key, ignore_errors=True)

    def left_out(self, config: RunConfig, key: str) -> bool:
        """True if the last command line that composed this run found it not applicable."""
        note = read(names.not_applicable(self._file(config, key)))
        return isinstance(note, RunRecord) and note.key == key and note.status == "not_applicable"

    def failures(self, config: RunConfig, key: str) -> list[Path]:
        """The failed tries of a run, oldest first."""
        return names.failures(self._file(config, key))

    def scan(self) -> Iterator[tuple[Path, RunRecord | RecordError]]:
        """Every record's file in a fixed order, with the record or the reason why it can't be read."""
        for file in json_files(self.root / Folder.RECORDS):
            yield file, read(file)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Own a run while training it; yields False where another process does.

        A lock of the kernel's: it is free again the moment its owner dies, however it dies.
        """
        folder = self.root / Folder.CLAIMS
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            with files.open_lock(folder / f"{key}.lock") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    yield False
                    return
                except OSError:  # A file system without locks: nobody can own anything there.
                    pass
                if files.is_named(stream.fileno(), folder / f"{key}.lock"):
                    yield True
                    return
            # `clean` deleted the file between its opening and its lock: what is owned then has no name for others.

    def put_tuning(self, key: str, tried: dict[str, Any]) -> None:
        """Keep a run's trials (JSON values) until its record holds them."""
        text = json.dumps(redact.data(tried), indent=1)
        cached.write(self._tuning(key), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def tuning(self, key: str) -> dict[str, Any] | None:
        """A run's trials as `put_tuning` kept them; None: there are none, or the file doesn't hold."""
        return cached.read(self._tuning(key), _decoded)

    def _tuning(self, key: str) -> Path:
        return self.root / Folder.TRIALS / Folder.STUDIES / f"{key}.json"

    def record_file(self, config: RunConfig, key: str) -> Path:
        """The file where a run's record is, or will be once the run is completed."""
        file = self._file(config, key)
        return home(file) or file

    def _file(self, config: RunConfig, key: str) -> Path:
        cell = _cell(config)
        return self.root / Folder.RECORDS / cell / f"{key}.json"


def _temporary(folder: Path) -> tuple[str, ...]:
    """The names of a folder's temporary files: being written, or left by a process that was killed."""
    try:
        return _listed(folder, fingerprint.stamp(folder))
    except OSError:
        return ()


@functools.lru_cache(maxsize=1024)
def _listed(folder: Path, stamp: fingerprint.Stamp) -> tuple[str, ...]:
    # Once, as long as nothing changes there: a start asks for each of thousands of runs in one folder.
    return tuple(name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp"))


def _cell(config: RunConfig) -> Path:
    """The folder of a run's files, in the folder of their kind."""
    return Path(config.dataset.name, config.model.name, config.method.name)


def _complete(temporary: Path, target: Path, record: RunRecord, *, overwrite: bool) -> Path:
    """Give a completed record's file a free name; returns the name under which the run is recorded now."""
    for name in names.completed(target):
        if _is_of(read(name), record):  # Another writer was first, with the same run, or it is to be replaced.
            if overwrite:
                os.replace(temporary, name)
            return name
        with contextlib.suppress(FileExistsError):
            names.give(temporary, name)
            return name
    raise AssertionError("names have no end")


def _is_of(other: RunRecord | RecordError, record: RunRecord) -> bool:
    """True if a file that was read holds a record of the same run, with the same status."""
    if isinstance(other, RecordError) or (other.key, other.status) != (record.key, record.status):
        return False
    return reading.key_of(other) == reading.key_of(record)


def _decoded(file: Path) -> dict[str, Any] | None:
    """The content of a study's file; None where it can't be read: the run that it was for is made all the same."""
    try:
        return msgspec.json.decode(files.read_plain(file, most=LARGEST), type=dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("%s: what was tried can't be read (%s)", file, error)
        return None


def _text(record: RunRecord) -> str:
    text = json.dumps(redact.data(record.to_dict()), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    # A file's name in an error may hold what no encoding has.
    return text.encode("utf-8", "replace").decode("utf-8")


def write_ended(unfinished: Path, record: RunRecord) -> None:
    """Write a run's record into the run's own folder, where it stays until the parent has put it: whatever happens in
    between, the run isn't trained again. If the disk is full, the parent still has the record it was sent."""
    try:
        files.write(unfinished / _ENDED, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))
    except OSError as error:
        _log.warning("the record can't be left in %s (%s)", unfinished, error)


def rescue(record: RunRecord, store: ResultStore, error: OSError) -> str:
    """Keep a record that its folder doesn't take, in the folder for temporary files or else in the message itself;
    returns the message."""
    why = f"results_dir={store.root}: the record can't be written ({error.strerror or error})"
    try:
        file = Path(tempfile.gettempdir(), f"peftbench-{record.key}.json")
        files.write(file, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))
    except OSError:
        return f"{why}; this is it: {' '.join(_text(record).split())}"
    return f"{why}; it is kept as {file}"


#: Where the records of trials are, under the results folder: they are no rows of a leaderboard.
TRIALS = str(Folder.TRIALS)
