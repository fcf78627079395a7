"""A folder of the cache that keeps tables as Parquet files, one a split."""

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from peftbench.errors import ConfigError
from peftbench.system import cached


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
    entries = {split: folder / f"{stem}.parquet" for split, stem in stems.items()}
    if not all(cached.holds(entry) for entry in entries.values()):
        try:
            by_split = make()
            for split, table in by_split.items():
                cached.write(entries[split], functools.partial(pq.write_table, table))
        except OSError as error:
            raise ConfigError(f"results_dir: can't write to {folder} ({error.strerror})") from None
        entries = {split: entries[split] for split in by_split}
    return {split: [str(entry.resolve())] for split, entry in entries.items()}
