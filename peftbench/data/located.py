"""A data set prepared once a process, and not once a run: thousands of runs are named at a start."""

import os
from collections.abc import Iterator
from pathlib import Path

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data import own_files, sources
from peftbench.data.sources import DataSource
from peftbench.system import fingerprint
from peftbench.system.fingerprint import Stamp

Stamps = dict[Path, Stamp | None]

#: By configuration and places: what was prepared, and the stamps of all that it rests on.
_PREPARED: dict[tuple[str, ...], tuple[DatasetConfig, DataSource, Stamps]] = {}


def prepare(
    config: DatasetConfig, *, data_root: str | None, cache: Path, train: bool
) -> tuple[DatasetConfig, DataSource]:
    """A data set's configuration with what wasn't said filled in, and where its rows are: from memory if no file that
    it rests on has changed. A generator is asked once, as is a hub that is asked for no certain revision.

    Args:
        data_root, cache, train: as `sources.locate`; errors as its and `own.complete`'s.
    """
    name = (repr(config), str(data_root), str(cache), str(train), os.getcwd())
    if name in _PREPARED:
        completed, source, stamps = _PREPARED[name]
        if all(_stamp(path) == stamp for path, stamp in stamps.items()):
            return completed, source
    completed = own_files.complete(config)
    source = sources.locate(completed, data_root=data_root, cache=cache, train=train)
    files = [*_given(config), *_files(source)]
    # The folders too: a further file of a split may come into them.
    _PREPARED[name] = completed, source, {path: _stamp(path) for file in files for path in (file, file.parent)}
    return completed, source


def _given(config: DatasetConfig) -> list[Path]:
    """The user's own files."""
    return [Path(value).expanduser() for key, value in vars(config).items() if f"_{key}".endswith("_file") and value]


def _files(source: DataSource) -> Iterator[Path]:
    for files in source.files.values():
        yield from map(Path, files)
    for part in source.parts.values():
        yield from _files(part)


def _stamp(path: Path) -> Stamp | None:
    try:
        return fingerprint.stamp(path)
    except OSError:
        return None
