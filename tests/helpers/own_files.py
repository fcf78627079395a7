"""The user's own files as tests write them, and what their rows are read as."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.data import sources
from peftbench.data.examples import Example
from peftbench.data.readers import reader
from peftbench.errors import ConfigError
from peftbench.run.prepared import PreparedRun, prepare
from tests.helpers.composed import composed

TEXTS = [f"a walk by the {('lake', 'wood', 'mill', 'pier')[i % 4]}, day {i}" for i in range(12)]
CLASSIFY = ["dataset.text=note", "dataset.label=mood"]


class Files:
    """Two files in a folder, and the runs that are made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def csv(self, rows: str | bytes, name: str = "a.csv") -> Path:
        (self.folder / name).write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        return self.folder / name

    def jsonl(self, rows: list[Any], name: str = "a.jsonl") -> Path:
        return self.csv("".join(json.dumps(row) + "\n" for row in rows), name)

    def parquet(self, columns: dict[str, Any], name: str = "a.parquet") -> Path:
        pq.write_table(pa.table(columns), self.folder / name)
        return self.folder / name

    def cell(self, train: Path, *more: str, validation: Path | None = None) -> PreparedRun:
        form = train.name.split(".")[1]
        files = [f"dataset.train_file={train}", f"dataset.validation_file={validation or train}"]
        places = [f"results_dir={self.folder / 'results'}"]
        return prepare(composed(["model=tiny_bert", f"dataset={form}", *files, *places, *more]))

    def whole(self, file: Path, *more: str) -> PreparedRun:
        """A run on one file that is divided."""
        places = [f"results_dir={self.folder / 'results'}"]
        form = file.name.split(".")[1]
        return prepare(composed(["model=tiny_bert", f"dataset={form}", f"dataset.file={file}", *places, *more]))

    def refusal_of_whole(self, file: Path, *more: str) -> str:
        with pytest.raises(ConfigError) as error:
            self.whole(file, *more)
        assert "\n" not in str(error.value)
        return str(error.value)

    def refusal(self, train: Path, *more: str, validation: Path | None = None) -> str:
        with pytest.raises(ConfigError) as error:
            self.cell(train, *more, validation=validation)
        assert "\n" not in str(error.value)
        return str(error.value)


def examples(cell: PreparedRun, split: str = "train") -> list[Example]:
    """What a split's rows are read as."""
    read = reader(cell.config.dataset)
    table = sources.read(cell.source, split, read.columns)
    return read.examples(table, np.arange(table.num_rows))


def labels(cell: PreparedRun, split: str = "train") -> list[str]:
    """The labels of a split by name, in the file's order."""
    names = cell.config.dataset.labels or []
    return [names[int(example.label)] for example in examples(cell, split)]


def csv_text(moods: list[str], header: str = "note,mood", end: str = "\n") -> str:
    """A file of texts, one for every mood."""
    return end.join([header, *(f'"{TEXTS[i % 12]}",{mood}' for i, mood in enumerate(moods)), ""])
