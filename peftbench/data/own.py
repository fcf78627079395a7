"""The user's own files (`dataset=csv`, `jsonl`, `parquet`): read as they are, with what wasn't said filled in. Free of
torch."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peftbench import fingerprint
from peftbench.data.examples import column
from peftbench.data.readers import READERS
from peftbench.errors import ConfigError
from peftbench.schema import DatasetConfig

#: More different values than this are no classes.
_MOST_LABELS = 100


def complete(config: DatasetConfig) -> DatasetConfig:
    """The configuration with a name of its own, and with labels and metrics where none are given.

    Labels are the different values of the label column of the training file, sorted; metrics are the task type's.

    Raises:
        ConfigError: something that is needed isn't said, or the training file can't be read.
    """
    if config.format is None:
        return config
    files = _files(config)
    config = replace(config, name=_name(config, files[config.train]))
    if not config.metrics:
        config = replace(config, metrics=dict(getattr(READERS.get(config.task), "default_metrics", {})))
    if config.task not in READERS or config.label is None or config.labels is not None:
        return config
    return replace(config, labels=_labels(config, files[config.train])) if _takes_labels(config) else config


def tables(config: DatasetConfig) -> tuple[dict[str, pa.Table], str]:
    """Every split as a table, and a hash of the files."""
    files = _files(config)
    found = {split: _read(config, file) for split, file in files.items()}
    names = set(config.labels or [])
    if names and config.label is not None and all(config.label in table.column_names for table in found.values()):
        # Numbers that are names: 1 to 5, say, which are no indices.
        if {_text(value) for value in column(found[config.train], config.label)} <= names:
            found = {split: _named(table, config.label) for split, table in found.items()}
    # Reading the text columns as text changes what a file says, so they are part of its name.
    return found, fingerprint.of_json([fingerprint.of_files(files.values()), config.format, config.text, config.labels])


def _files(config: DatasetConfig) -> dict[str, Path]:
    """By split; relative paths from where the user stands."""
    found = {}
    for split, key in ((config.train, "train_file"), (config.evaluation[0], "validation_file")):
        given = getattr(config, key)
        if given is None:
            raise ConfigError(f"dataset.{key}: is required and not set: a {config.format} file")
        try:
            file = Path(given).expanduser()
        except RuntimeError:
            raise ConfigError(f"dataset.{key}={given}: there is no such user's home; allowed is a file") from None
        if not file.is_file():
            raise ConfigError(f"dataset.{key}={given}: there is no such file (looked in {os.getcwd()})")
        found[split] = file
    return found


def _name(config: DatasetConfig, file: Path) -> str:
    """The title, or the training file's name; its folder's where that only says which split it is."""
    stem = file.stem if file.stem not in ("train", "training") else file.resolve().parent.name
    return re.sub(r"[^\w.-]+", "-", config.title or stem).strip("-.") or str(config.format)


def _takes_labels(config: DatasetConfig) -> bool:
    return bool(getattr(READERS[config.task], "takes_labels", False))


def _labels(config: DatasetConfig, file: Path) -> list[str]:
    assert config.label is not None
    table = _read(config, file)
    if config.label not in table.column_names:
        raise ConfigError(
            f"dataset.label={config.label}: {file.name} has no such column; it has {', '.join(table.column_names)}"
        )
    values = set(column(table, config.label))
    if None in values:
        raise ConfigError(f"dataset.label={config.label}: {file.name} has rows without a label")
    if not 1 < len(values) <= _MOST_LABELS:
        raise ConfigError(
            f"dataset.label={config.label}: {file.name} has {len(values)} different values; allowed are 2 to "
            f"{_MOST_LABELS} classes, more if dataset.labels names them, or dataset.task=regression"
        )
    return [_text(value) for value in sorted(values)]


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _named(table: pa.Table, label: str) -> pa.Table:
    names = pa.array([_text(value) for value in column(table, label)], pa.string())
    return table.set_column(table.column_names.index(label), label, names)


def _read(config: DatasetConfig, file: Path) -> pa.Table:
    try:
        return _FORMATS[str(config.format)](file, config)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{file}: can't be read as {config.format} ({reason})") from None


def _csv(file: Path, config: DatasetConfig) -> pa.Table:
    import pyarrow.csv

    # A column of text may look like numbers.
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(config.text, pa.string()))
    return pyarrow.csv.read_csv(
        file, convert_options=options, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)
    )


def _jsonl(file: Path, config: DatasetConfig) -> pa.Table:
    import pyarrow.json

    return pyarrow.json.read_json(file)


def _parquet(file: Path, config: DatasetConfig) -> pa.Table:
    return pq.read_table(file, memory_map=False, partitioning=None)


_FORMATS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
