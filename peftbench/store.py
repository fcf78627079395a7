"""`ResultStore`: records on disk, one JSON file each, written once, safe for many writers. Free of torch.

<results_dir>/records/<dataset>/<model>/<method>/<key>.json             a completed run
<results_dir>/records/<dataset>/<model>/<method>/<key>.failed-<n>.json  a failed try
<results_dir>/records/<dataset>/<model>/<method>/<key>.not-applicable.json  why a sweep left a run out
<results_dir>/predictions/... .parquet and adapters/...                 beside it, not in version control
<results_dir>/unfinished/<key>/                                         the state of a run that hasn't ended
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench import files, folders
from peftbench.folders import Folder
from peftbench.records import RecordError, RunRecord, from_dict
from peftbench.redact import redact

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
        return where.parents[4] / Folder.ADAPTERS / Path(*where.parts[-4:-1]) / record.stem

    @property
    def cache(self) -> Path:
        """Generated data and tokenised sets."""
        return self.root / Folder.CACHE

    def check_writable(self, configs: Sequence["RunConfig"] = ()) -> None:
        """Raises ConfigError if something can't be written where these runs will, under the results folder."""
        folders.check_writable(self.root, {_cell(config) for config in configs})

    def completed(self, config: "RunConfig", key: str) -> bool:
        """Whether this run is recorded as completed."""
        file = self._file(config, key)
        return file.is_file() and isinstance(read(file), RunRecord)

    def put(self, config: "RunConfig", record: RunRecord) -> Path:
        """Write a record once, all of it or nothing, and leave it on the disk before returning.

        The file gets its name by a hard link: unlike a rename, that never overwrites another writer's record. A failed
        try gets the next free number. `overwrite=true` is the one case that replaces a completed record.
        """
        target = self._file(config, record.key)
        files.make_folder(target.parent)
        temporary = target.parent / f".{record.key}.{os.getpid()}.tmp"
        try:
            temporary.write_text(_text(record), encoding="utf-8")
            files.sync(temporary)
            if record.status == "completed":
                _complete(temporary, target, overwrite=config.overwrite)
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
        file = self.root / Folder.UNFINISHED / key / _ENDED
        record = read(file) if file.is_file() else None
        return record if isinstance(record, RunRecord) and record.key == key else None

    def tidy(self, config: "RunConfig", key: str) -> None:
        """Delete what processes that were killed have left of a completed run, unless another process owns it."""
        places = self.places(config, key)
        folders = (self._file(config, key).parent, places.adapter.parent, places.predictions.parent)
        left = [path for folder in folders for path in folder.glob(f".{key}.*.tmp")]
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
        return self._file(config, key).with_name(f"{key}.not-applicable.json").is_file()

    def failures(self, config: "RunConfig", key: str) -> list[Path]:
        """The failed tries of a run, oldest first."""
        found = self._file(config, key).parent.glob(f"{key}.failed-*.json")
        return sorted(found, key=lambda file: int(file.stem.rpartition("-")[2]))

    def scan(self) -> Iterator[tuple[Path, RunRecord | RecordError]]:
        """Every record under the folder in a fixed order; for a file that holds none, why."""
        for file in sorted((self.root / Folder.RECORDS).rglob("*.json")):
            if not file.name.startswith("."):
                yield file, read(file)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Own a run while training it; yields False where another process does.

        A lock of the kernel's: it is free again the moment its owner dies, however it dies.
        """
        folder = self.root / Folder.CLAIMS
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{key}.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            except OSError:  # A file system without locks: nobody can own anything there.
                pass
            yield True

    def put_tuning(self, key: str, tried: dict[str, Any]) -> None:
        """Keep what was tried before a run, until its record takes it."""
        file = self._tuning(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(json.dumps(tried, indent=1), encoding="utf-8")
        os.replace(temporary, file)

    def tuning(self, key: str) -> dict[str, Any] | None:
        """What was tried before a run; None: nothing."""
        file = self._tuning(key)
        return json.loads(file.read_bytes()) if file.is_file() else None

    def _tuning(self, key: str) -> Path:
        return self.root / Folder.TRIALS / Folder.STUDIES / f"{key}.json"

    def record_file(self, config: "RunConfig", key: str) -> Path:
        """Where a run's record is, once it is completed."""
        return self._file(config, key)

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


def _complete(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Name a completed record; a file of that name that holds none is set aside first."""
    if overwrite:
        os.replace(temporary, target)
        return
    if target.exists() and isinstance(read(target), RecordError):
        os.replace(target, target.with_name(f"{target.name}.corrupt"))
    with contextlib.suppress(FileExistsError):  # Another writer was first, with the same run.
        _give_name(temporary, target)


def read(file: Path) -> RunRecord | RecordError:
    """One record, or why the file holds none."""
    try:
        return from_dict(json.loads(file.read_bytes()))
    except RecordError as error:
        return error
    except ValueError as error:
        return RecordError(f"not whole JSON ({str(error).splitlines()[0]})")
    except OSError as error:
        return RecordError(f"can't be read ({error.strerror})", corrupt=False)


def _text(record: RunRecord) -> str:
    return redact(json.dumps(record.to_dict(), indent=1, allow_nan=False, ensure_ascii=False)) + "\n"


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
