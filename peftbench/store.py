"""`ResultStore`: records on disk, one JSON file each, written once, safe for many writers. Free of torch.

<results_dir>/records/<dataset>/<model>/<method>/<key>.json             a completed run
<results_dir>/records/<dataset>/<model>/<method>/<key>.failed-<n>.json  a failed try
<results_dir>/records/<dataset>/<model>/<method>/<key>.beside-<n>.json  a completed run whose name was taken
<results_dir>/records/<dataset>/<model>/<method>/<key>.not-applicable.json  why a sweep left a run out
<results_dir>/predictions/... .parquet and adapters/...                 beside it, not in version control
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
from typing import TYPE_CHECKING, Any

import msgspec

from peftbench import cached, files, fingerprint, folders, records, redact
from peftbench.folders import Folder
from peftbench.reading import LARGEST, failures, home, json_files, key_in, names, read
from peftbench.records import RecordError, RunRecord

if TYPE_CHECKING:  # The schema brings OmegaConf, which watching does without.
    from peftbench.schema import RunConfig


_log = logging.getLogger(__name__)

#: A run's record in its own folder, until it is put.
_ENDED = "record.json"


@dataclass(frozen=True)
class Places:
    """Where one run may write.

    Attributes:
        unfinished: its state until its record is there.
    """

    adapter: Path
    predictions: Path
    unfinished: Path
    cache: Path


class ResultStore:
    """The records under one results folder."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def places(self, config: "RunConfig", key: str) -> Places:
        """The paths of a run's own files."""
        cell = _cell(config)
        return Places(
            adapter=self.root / Folder.ADAPTERS / cell / key,
            predictions=self.root / Folder.PREDICTIONS / cell / f"{key}.parquet",
            unfinished=self.root / Folder.UNFINISHED / key,
            cache=self.cache,
        )

    @staticmethod
    def weights_of(record: Path) -> Path | None:
        """Where the run lies whose record is this file: the folder of its weights; None where it is in no results
        folder."""
        where = record.absolute()
        if len(where.parents) < 5:
            return None
        return where.parents[4] / Folder.ADAPTERS / Path(*where.parts[-4:-1]) / key_in(record)

    @property
    def cache(self) -> Path:
        """Generated data and tokenised sets."""
        return self.root / Folder.CACHE

    def check_writable(self, configs: Sequence["RunConfig"] = ()) -> None:
        """Raises ConfigError if something can't be written where these runs will, under the results folder."""
        folders.check_writable(self.root, {_cell(config) for config in configs})

    def completed(self, config: "RunConfig", key: str) -> bool:
        """Whether this run is recorded as completed, by a record that can be believed."""
        return home(self._file(config, key)) is not None

    def put(self, config: "RunConfig", record: RunRecord) -> Path:
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
                target = self._link_failure(temporary, config, record.key)
        finally:
            temporary.unlink(missing_ok=True)
        files.sync(target.parent)
        return target

    def put_not_applicable(self, config: "RunConfig", key: str, reason: str | None) -> None:
        """Note why a run was left out; None takes an old note back."""
        target = self._file(config, key).with_name(f"{key}.not-applicable.json")
        if reason is None:
            target.unlink(missing_ok=True)
            return
        from peftbench import schema  # Brings OmegaConf, which watching does without.

        record = RunRecord(key=key, status="not_applicable", error=reason, config=schema.description(config))
        files.write(target, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))

    def ended(self, config: "RunConfig", key: str) -> RunRecord | None:
        """The record of a run that had ended when its parent was stopped, before it could be put."""
        record = read(self.root / Folder.UNFINISHED / key / _ENDED)
        believed = isinstance(record, RunRecord) and record.key == key and record.status == "completed"
        return record if believed and records.key_of(record) == key else None  # type: ignore[arg-type,return-value]

    def tidy(self, config: "RunConfig", key: str) -> None:
        """Delete what processes that were killed have left of a completed run, unless another process owns it."""
        places = self.places(config, key)
        folders = (self._file(config, key).parent, places.adapter.parent, places.predictions.parent)
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

    def left_out(self, config: "RunConfig", key: str) -> bool:
        """Whether the last command line that composed this run found it not applicable."""
        note = read(self._file(config, key).with_name(f"{key}.not-applicable.json"))
        return isinstance(note, RunRecord) and note.key == key and note.status == "not_applicable"

    def failures(self, config: "RunConfig", key: str) -> list[Path]:
        """The failed tries of a run, oldest first."""
        return failures(self._file(config, key))

    def scan(self) -> Iterator[tuple[Path, RunRecord | RecordError]]:
        """Every record under the folder in a fixed order; for a file that holds none, why."""
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
        """Keep what was tried before a run, until its record takes it."""
        text = json.dumps(redact.data(tried), indent=1)
        cached.write(self._tuning(key), lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def tuning(self, key: str) -> dict[str, Any] | None:
        """What was tried before a run; None: nothing, or the file doesn't hold."""
        return cached.read(self._tuning(key), _decoded)

    def _tuning(self, key: str) -> Path:
        return self.root / Folder.TRIALS / Folder.STUDIES / f"{key}.json"

    def record_file(self, config: "RunConfig", key: str) -> Path:
        """Where a run's record is, or will be, once it is completed."""
        file = self._file(config, key)
        return home(file) or file

    def _file(self, config: "RunConfig", key: str) -> Path:
        cell = _cell(config)
        return self.root / Folder.RECORDS / cell / f"{key}.json"

    def _link_failure(self, temporary: Path, config: "RunConfig", key: str) -> Path:
        number = len(self.failures(config, key)) + 1
        while True:
            target = self._file(config, key).with_name(f"{key}.failed-{number}.json")
            try:
                _give_name(temporary, target)
            except FileExistsError:
                number += 1
                continue
            return target


def _temporary(folder: Path) -> tuple[str, ...]:
    """The names in a folder of what is being written, or was left when a process was killed."""
    try:
        return _listed(folder, fingerprint.stamp(folder))
    except OSError:
        return ()


@functools.lru_cache(maxsize=1024)
def _listed(folder: Path, stamp: fingerprint.Stamp) -> tuple[str, ...]:
    # Once, as long as nothing changes there: a start asks for each of thousands of runs in one folder.
    return tuple(name for name in os.listdir(folder) if name.startswith(".") and name.endswith(".tmp"))


def _cell(config: "RunConfig") -> Path:
    """The folder of a run's files, in the folder of their kind."""
    return Path(config.dataset.name, config.model.name, config.method.name)


def _give_name(temporary: Path, target: Path) -> None:
    """Name a finished file unless the name is taken (FileExistsError)."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # A file system without hard links: reserve the name, then fill it at once.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, target)


def _complete(temporary: Path, target: Path, record: RunRecord, *, overwrite: bool) -> Path:
    """Name a completed record; returns the name that the run has now."""
    for name in names(target):
        if _is_of(read(name), record):  # Another writer was first, with the same run, or it is to be replaced.
            if overwrite:
                os.replace(temporary, name)
            return name
        with contextlib.suppress(FileExistsError):
            _give_name(temporary, name)
            return name
    raise AssertionError("names have no end")


def _is_of(there: RunRecord | RecordError, record: RunRecord) -> bool:
    """Whether what was read is a record of the same run."""
    if isinstance(there, RecordError) or (there.key, there.status) != (record.key, record.status):
        return False
    return records.key_of(there) == records.key_of(record)


def _decoded(file: Path) -> dict[str, Any] | None:
    """What a study's file says; None where that can't be read: the run that it was for is made all the same."""
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
    """Leave a run's record in its own folder, until its parent has put it: whatever happens in between, it isn't
    trained again. Where the disk is full, the parent has its copy all the same."""
    try:
        files.write(unfinished / _ENDED, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))
    except OSError as error:
        _log.warning("the record can't be left in %s (%s)", unfinished, error)


def rescue(record: RunRecord, store: ResultStore, error: OSError) -> str:
    """Keep a record that its folder doesn't take: in the folder for temporary files, or on the terminal. Says so."""
    why = f"results_dir={store.root}: the record can't be written ({error.strerror or error})"
    try:
        file = Path(tempfile.gettempdir(), f"peftbench-{record.key}.json")
        files.write(file, lambda temporary: temporary.write_text(_text(record), encoding="utf-8"))
    except OSError:
        return f"{why}; this is it: {' '.join(_text(record).split())}"
    return f"{why}; it is kept as {file}"
