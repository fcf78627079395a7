"""Tables that are kept as Parquet, each under a name that holds its checksum. Free of torch."""

import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from peftbench import files, fingerprint
from peftbench.errors import ConfigError

_NAME = re.compile(r".+\.(?P<sum>[0-9a-f]{64})\.parquet")


def tables(folder: Path, splits: Iterable[str], make: Callable[[], dict[str, pa.Table]]) -> dict[str, list[str]]:
    """The files of a folder by split; where one is missing or isn't what it was, all are made.

    Args:
        folder: is named by everything that decides the tables.
        make: gives the table of every split.

    Raises:
        ConfigError: the folder can't be written.
    """
    # A split may be called what no file can be.
    stems = {split: f"{number}-{re.sub(r'[^0-9A-Za-z-]+', '-', split)[:40]}" for number, split in enumerate(splits)}
    there = {split: _whole(folder, stem) for split, stem in stems.items()}
    if all(there.values()):
        return {split: [str(file.resolve())] for split, file in there.items() if file is not None}
    try:
        return {split: [str(_write(folder, stems[split], table).resolve())] for split, table in make().items()}
    except OSError as error:
        raise ConfigError(f"results_dir: can't write to {folder} ({error.strerror})") from None


def holds(file: Path) -> bool:
    """Whether a file is what its name says; true of one whose name says nothing."""
    name = _NAME.fullmatch(file.name)
    return name is None or fingerprint.of_file(file) == name["sum"]


def _whole(folder: Path, stem: str) -> Path | None:
    try:
        candidates = sorted(folder.glob(f"{stem}.*.parquet")) if folder.is_dir() else []
        return next((file for file in candidates if _NAME.fullmatch(file.name) and holds(file)), None)
    except OSError:  # It is made anew.
        return None


def _write(folder: Path, stem: str, table: pa.Table) -> Path:
    """Write a table, whole or not at all: several runs may do so at once."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    content = buffer.getvalue()
    target = folder / f"{stem}.{hashlib.sha256(content).hexdigest()}.parquet"
    files.write(target, lambda temporary: temporary.write_bytes(content))
    return target
