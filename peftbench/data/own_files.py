"""The user's own files (`dataset=csv`, `jsonl`, `parquet`): columns by what they are for, whatever types a file or its
reader would give them, with what wasn't said filled in."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from peftbench.config.dataset_types import DatasetConfig
from peftbench.data import division, formats, labels, own_settings
from peftbench.data.jsonlines import Structure
from peftbench.data.kinds import Columns, Role, ValueKind
from peftbench.data.readers import READERS, reader
from peftbench.errors import ConfigError
from peftbench.system import fingerprint

#: Of how files are read: raised where the same file would become other rows.
_VERSION = 1

#: Labels by the fingerprint of what they were found in: a sweep asks for them in every cell.
_FOUND: dict[str, list[str]] = {}


def complete(config: DatasetConfig) -> DatasetConfig:
    """The configuration with a name of its own, and with labels and metrics where none are given.

    Labels are the different values of the label column of the training file, sorted; metrics are the task type's.

    Raises:
        ConfigError: something that is needed isn't said, or the training file can't be read.
    """
    if config.format is None:
        return own_settings.without(config)
    file = _files(config)[config.train]
    config = with_metrics(replace(config, name=_name(config, file), **own_settings.written(config)))
    if config.task not in READERS or config.label is None or config.labels is not None:
        return config
    takes_labels = getattr(READERS[config.task], "takes_labels", False)
    return replace(config, labels=_labels(config, file)) if takes_labels else config


def with_metrics(config: DatasetConfig) -> DatasetConfig:
    """The configuration with the task type's metrics where none are given."""
    if config.metrics:
        return config
    return replace(config, metrics=dict(getattr(READERS.get(config.task), "default_metrics", {})))


def identity(config: DatasetConfig) -> str:
    """A hash of everything that decides what `tables` gives.

    Raises:
        ConfigError: a file isn't there.
    """
    roles = [[role.column, role.key, role.kind.name] for role in reader(config).roles]
    contents = {split: [_hash(file), _called(config, split)] for split, file in _files(config).items()}
    how: list[Any] = [config.format, config.separator, config.encoding, config.drop_unlabelled, config.labels]
    if config.file is not None:
        how += [*own_settings.division_of(config), sorted(config.group or [])]
    return fingerprint.of_json([_VERSION, contents, roles, how])


def tables(config: DatasetConfig) -> dict[str, pa.Table]:
    """Every split as a table of the columns that are asked for, by `stored`.

    Raises:
        ConfigError: a file can't be read, or doesn't hold what the configuration says.
    """
    roles, name, files = _merged(reader(config).roles), identity(config), _files(config)
    if config.file is None:
        read = {split: _rows(config, split, file, roles) for split, file in files.items()}
    else:
        read = _divided(config, _rows(config, config.train, files[config.train], roles), roles)
    label = next((role.column for role in roles if role.kind is ValueKind.LABEL), None)
    label_reader = None if label is None else labels.Labels(config.labels or [], read[config.train][label])
    by_split = {}
    for split, values in read.items():
        where = files[split].name
        columns: list[Any] = []
        for role in roles:
            if role.column == label and label_reader is not None:
                columns.append(pa.array(label_reader.read(values[label], where), pa.int64()))
            else:
                columns.append(labels.array(values[role.column], role, where))
        by_split[split] = pa.table(columns, names=list(stored(config).values()))
    if identity(config) != name:
        raise ConfigError(f"{', '.join(map(str, files.values()))}: changed while being read")
    return by_split


def _divided(
    config: DatasetConfig, rows: dict[str, list[Any]], roles: Sequence[Role]
) -> dict[str, dict[str, list[Any]]]:
    """The rows of one file as those of two splits.

    Raises:
        ConfigError: a split would have no row.
    """
    classes = next((rows[role.column] for role in roles if role.kind in (ValueKind.LABEL, ValueKind.CHOICE)), None)
    units = list(zip(*(map(repr, rows[name]) for name in config.group), strict=True)) if config.group else None
    count, (share, seed) = len(next(iter(rows.values()))), own_settings.division_of(config)
    held_out = division.held_out(classes or [0] * count, units, share=share, seed=seed)
    if held_out.all() or not held_out.any():
        raise ConfigError(f"dataset.file={config.file}: has {count} rows, too few to divide, or one group alone")
    sides = {config.train: ~held_out, config.evaluation[0]: held_out}
    return {
        split: {name: [values[row] for row in np.flatnonzero(side)] for name, values in rows.items()}
        for split, side in sides.items()
    }


def stored(config: DatasetConfig) -> dict[str, str]:
    """Maps each column to its name in `tables`: a neutral one (`column_0`), which no library interprets."""
    return {role.column: f"column_{number}" for number, role in enumerate(_merged(reader(config).roles))}


def _merged(roles: Sequence[Role]) -> list[Role]:
    """One role a column. Raises ConfigError for a column that would have to be two things."""
    merged: dict[str, Role] = {}
    texts = [ValueKind.TEXT, ValueKind.TEXTS, ValueKind.ANSWERS]  # Each takes what those before it take.
    for role in roles:
        if role.column == "":
            raise ConfigError(f"dataset.{role.key}: a column without a name can't be asked for")
        other = merged.setdefault(role.column, role)
        if other.kind in texts and role.kind in texts:
            merged[role.column] = max(other, role, key=lambda r: texts.index(r.kind))
        elif other.kind is not role.kind:
            raise ConfigError(f"dataset.{role.key}={role.column}: is dataset.{other.key} too, which is read otherwise")
    for role in merged.values():
        if role.key == "text" and set(role.column) & set("{}"):
            raise ConfigError(f"dataset.text={role.column}: has a brace; dataset.columns gives it another name")
    return list(merged.values())


def _rows(config: DatasetConfig, split: str, file: Path, roles: Sequence[Role]) -> dict[str, list[Any]]:
    """Reads the columns of a split: name -> the values of every row that has a label.

    Raises:
        ConfigError: a column isn't there, or a row has no label.
    """
    called = _called(config, split)
    columns = _read(config, file, [called.get(role.column, role.column) for role in roles])
    for role in roles:
        _check(columns, called.get(role.column, role.column), role, file)
    if not columns.rows:
        key = "file" if config.file is not None else _KEYS[split == config.train]
        raise ConfigError(f"dataset.{key}={file}: has no rows")
    values = {role.column: columns.values[called.get(role.column, role.column)] for role in roles}
    unlabelled: set[int] = set()
    for role in roles:
        names = config.labels if role.kind is ValueKind.LABEL else None
        without = labels.missing(values[role.column], role, names)
        if without and not config.drop_unlabelled:
            raise ConfigError(_unlabelled(role, file, without, columns.rows))
        unlabelled |= set(without)
        if role.kind in (ValueKind.LABEL, ValueKind.CHOICE):
            values[role.column] = _label_texts(values[role.column], role, file)
    if len(unlabelled) == columns.rows:
        raise ConfigError(f"dataset.drop_unlabelled=true: every row of {file.name} is without a label")
    labelled = [row for row in range(columns.rows) if row not in unlabelled]
    return {name: [column[row] for row in labelled] for name, column in values.items()} if unlabelled else values


def _label_texts(values: Sequence[Any], role: Role, file: Path) -> list[Any]:
    """Labels as texts; None stays. Raises ConfigError for what is none."""
    for row, value in enumerate(values):
        if isinstance(value, list | Structure):
            raise ConfigError(f"dataset.label={role.column}: {file.name} row {row} has {value!r:.40}, not a label")
    return [None if value is None else labels.written(value) for value in values]


def _unlabelled(role: Role, file: Path, rows: Sequence[int], count: int) -> str:
    what = "right answer" if role.kind is ValueKind.ANSWERS else "label"
    return (
        f"dataset.{role.key}={role.column}: {file.name} has {len(rows)} of {count} rows without a {what} "
        f"({labels.listed(rows)}); dataset.drop_unlabelled=true leaves them out"
    )


#: Whether it is the training file's, to its key.
_KEYS = {True: "train_file", False: "validation_file"}


def _files(config: DatasetConfig) -> dict[str, Path]:
    """Maps each split to its file; a relative path is resolved from the working directory."""
    if config.train == config.evaluation[0]:
        raise ConfigError(f"dataset.evaluation={config.train}: is dataset.train too; the two files are two splits")
    if config.file is not None:
        for key in _KEYS.values():
            if getattr(config, key) is not None:
                raise ConfigError(f"dataset.{key}: doesn't go with dataset.file, which is divided into both splits")
        file = _file(f"dataset.file={config.file}", config.file)
        return {config.train: file, config.evaluation[0]: file}
    for key in ("holdout", "split_seed"):
        if getattr(config, key) is not None:
            raise ConfigError(f"dataset.{key}: goes with dataset.file, one file that is divided")
    files = {}
    for split in (config.train, config.evaluation[0]):
        key = _KEYS[split == config.train]
        path = getattr(config, key)
        if path is None:
            raise ConfigError(f"dataset.{key}: is required and not set: a {config.format} file, unless dataset.file is")
        files[split] = _file(f"dataset.{key}={path}", path)
    return files


def _file(key: str, path: str) -> Path:
    try:
        file = Path(path).expanduser()
        if file.is_file():
            return file
        what = "is a folder" if file.is_dir() else "is no plain file" if file.exists() else "there is no such file"
    except (OSError, RuntimeError, ValueError) as error:  # A name that is too long; ~nobody.
        what = getattr(error, "strerror", None) or str(error)
    raise ConfigError(f"{key[:300]}: {what} (looked in {os.getcwd()})")


def _hash(file: Path) -> str:
    """A hash of a file's content and of how its name says that it is packed."""
    try:
        return fingerprint.of_file(file) + formats.packed(file)
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from None


def name_in_records(config: DatasetConfig) -> str:
    """The name that records have for a data set, without reading it: of the user's own file the title or the file's."""
    file = config.file or config.train_file
    return _name(config, Path(file)) if config.format and file else config.name


def _name(config: DatasetConfig, file: Path) -> str:
    """The title, or the training file's name; its folder's where that only says which split it is."""
    stem = file.stem if file.stem not in ("train", "training") else file.resolve().parent.name
    return re.sub(r"[^\w.-]+", "-", config.title or stem).strip("-.") or str(config.format)


def _called(config: DatasetConfig, split: str) -> dict[str, str]:
    """Maps our column names to those in a split's file, where they differ."""
    return {**(config.columns or {}), **((config.train_columns or {}) if split == config.train else {})}


def _read(config: DatasetConfig, file: Path, wanted: Sequence[str]) -> Columns:
    return formats.read(file, wanted, form=str(config.format), separator=config.separator, encoding=config.encoding)


def _check(columns: Columns, name: str, role: Role, file: Path) -> None:
    """Raises ConfigError for a column that isn't there, or is there twice."""
    key = f"dataset.{role.key}={role.column}"
    if name in columns.twice:
        raise ConfigError(f"{key}: {file.name} has several columns of that name; each needs one of its own")
    if name in columns.values:
        return
    raise ConfigError(f"{key}: {file.name} has no such column; it has {_short(columns.names)}{_cure(columns.names)}")


def _short(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 1000 else f"{text[:1000]}... ({len(names)} in all)"


def _cure(names: Sequence[str]) -> str:
    """Suggests a separator where a file seems to have one column only."""
    if len(names) != 1:
        return ""
    between = [word for word, character in formats.SEPARATORS.items() if word.isalpha() and character in names[0]]
    return f": dataset.separator={between[0]}?" if between and between[0] != "space" else ""


def _labels(config: DatasetConfig, file: Path) -> list[str]:
    """The training file's labels."""
    assert config.label is not None
    called = _called(config, config.train)
    role = Role(config.label, "label", ValueKind.LABEL)
    how = [_hash(file), config.format, config.separator, config.encoding, called, config.label, config.drop_unlabelled]
    name = fingerprint.of_json(how)
    if name not in _FOUND:
        values = _rows(config, config.train, file, [role])[role.column]
        _FOUND[name] = labels.names(values, f"dataset.label={config.label}: {file.name}")
    return list(_FOUND[name])
