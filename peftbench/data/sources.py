"""Where a data set's rows are: local Parquet files, the hub, or a generator. Free of torch and of `datasets`.

Everything ends as Parquet files, so that a run never imports `datasets` (0.3 s and a thread) nor asks the network.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peftbench import fingerprint, hub
from peftbench.errors import ConfigError
from peftbench.schema import DatasetConfig


@dataclass(frozen=True)
class DataSource:
    """Parquet files by split (a split that isn't there is missing from the dict), and a hash of the whole."""

    files: dict[str, list[str]]
    fingerprint: str


def locate(config: DatasetConfig, *, data_root: str | None, cache: Path) -> DataSource:
    """Find a data set and check what can be checked before training: splits, columns, labels, readable files.

    Args:
        data_root: a folder of hub-like data sets, `<data_root>/<last part of path>/[<config>/]<split>-*.parquet`;
            None: the hub.
        cache: where generated and downloaded sets are kept as Parquet.

    Raises:
        ConfigError: missing, unreadable, empty, or not what the data set's file says.
    """
    if config.generator is not None:
        source = _generated(config, cache)
    elif config.path is None:
        raise ConfigError(f"dataset={config.name}: needs dataset.path or dataset.generator")
    elif data_root is not None:
        source = _local(config, Path(data_root))
    else:
        source = _from_hub(config, cache)
    _check(config, source)
    return source


def wanted_splits(config: DatasetConfig) -> list[str]:
    """The splits a run reads: train and the official evaluation splits."""
    return list(dict.fromkeys([config.train, *config.evaluation]))


def read(source: DataSource, split: str, columns: list[str]) -> pa.Table:
    """Some columns of a split, in the order of its files.

    Raises:
        ConfigError: a file can't be read.
    """
    tables = []
    for file in source.files[split]:
        try:
            # Not memory-mapped: a file may be replaced while a sweep runs.
            tables.append(pq.read_table(file, columns=columns, memory_map=False, partitioning=None))
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{file}: can't be read as Parquet ({str(error).splitlines()[0]})") from None
    return pa.concat_tables(tables)


def labels(config: DatasetConfig, table: pa.Table, where: str) -> list[int]:
    """The label column as indices into `dataset.labels`; the data may hold the indices or the names.

    Raises:
        ConfigError: a label is none of them.
    """
    values = table.column(config.label).to_pylist()
    by_name = {name: index for index, name in enumerate(config.labels)}
    allowed = set(range(len(config.labels)))
    indices: list[Any] = [_index(value, by_name) for value in values]
    for row, value in enumerate(indices):
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            names = ", ".join(f"{index} ({name})" for index, name in enumerate(config.labels))
            raise ConfigError(f"dataset.labels: {where} row {row} has the label {values[row]!r}; allowed are {names}")
    return indices


def _index(value: Any, by_name: dict[str, int]) -> Any:
    if isinstance(value, str):
        return by_name.get(value, value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _local(config: DatasetConfig, root: Path) -> DataSource:
    folder = root / str(config.path).rstrip("/").split("/")[-1]
    folder = folder / config.config if config.config else folder
    if not folder.is_dir():
        raise ConfigError(f"data_root={root}: there is no folder {folder} for dataset={config.name}")
    files = {}
    for split in wanted_splits(config):
        found = sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")])
        if found:
            files[split] = [str(file.resolve()) for file in found]
    for split in (config.train, config.evaluation[0]):
        if split not in files:
            there = ", ".join(sorted(f.name for f in folder.iterdir())) or "nothing"
            raise ConfigError(f"data_root={root}: {folder} has no {split}-*.parquet (it has {there})")
    return DataSource(files, fingerprint.of_files(Path(f) for found in files.values() for f in found))


def _generated(config: DatasetConfig, cache: Path) -> DataSource:
    from hydra.utils import get_method

    try:
        splits = get_method(str(config.generator))()
    except Exception as error:
        raise ConfigError(f"dataset.generator={config.generator}: {error}") from None
    # Named by its rows too: a changed generator can't meet a stale file.
    return _content_named(splits, cache)


def _from_hub(config: DatasetConfig, cache: Path) -> DataSource:
    wanted = wanted_splits(config)
    identity = {"path": config.path, "config": config.config, "revision": config.revision, "splits": wanted}
    folder = cache / "data" / fingerprint.of_json(identity)[:16]
    if not hub.is_commit(config.revision):
        # What an unpinned name stands for may change: the rows' hash names the folder.
        return _content_named(_download(config, wanted), cache)
    kept = {split: [str(folder / f"{split}.parquet")] for split in wanted if (folder / f"{split}.parquet").is_file()}
    if len(kept) < len(wanted):
        kept = _keep(_download(config, wanted), folder)
    return DataSource(kept, f"{config.path}/{config.config}@{config.revision}")


def _content_named(splits: dict[str, pa.Table], cache: Path) -> DataSource:
    name = fingerprint.of_json({split: table.to_pydict() for split, table in splits.items()})
    return DataSource(_keep(splits, cache / "data" / name[:16]), name)


def _download(config: DatasetConfig, wanted: list[str]) -> dict[str, pa.Table]:
    hub.reachable()
    import datasets

    try:
        loaded = datasets.load_dataset(str(config.path), config.config, revision=config.revision)
    except Exception as error:
        raise ConfigError(
            f"dataset={config.name}: can't get {config.path} {config.config or ''}: {hub.why_missing()} "
            f"({type(error).__name__}); point data_root= at a folder that holds "
            f"{str(config.path).split('/')[-1]}/{config.config or ''}, or use dataset=demo"
        ) from None
    return {split: loaded[split].with_format("arrow")[:] for split in wanted if split in loaded}


def _keep(splits: dict[str, pa.Table], folder: Path) -> dict[str, list[str]]:
    """Write tables as Parquet, each whole or not at all: several runs may do so at once."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for split, table in splits.items():
            target = folder / f"{split}.parquet"
            if not target.exists():
                temporary = folder / f".{split}.{os.getpid()}.parquet"
                pq.write_table(table, temporary)
                os.replace(temporary, target)
    except OSError as error:
        raise ConfigError(f"results_dir: can't write to {folder} ({error.strerror})") from None
    return {split: [str((folder / f"{split}.parquet").resolve())] for split in splits}


def _check(config: DatasetConfig, source: DataSource) -> None:
    for key, split in (("train", config.train), ("evaluation", config.evaluation[0])):
        if split not in source.files:
            raise ConfigError(f"dataset.{key}={split}: the data has no such split; it has {', '.join(source.files)}")
    for split, files in source.files.items():
        _check_split(config, split, tuple(files), source.fingerprint)


#: Fingerprint, split and configuration of what was read through in this process.
_CHECKED: set[tuple[str, str, str]] = set()


def _check_split(config: DatasetConfig, split: str, files: tuple[str, ...], name: str) -> None:
    """Read every wanted column once a process: half a file is only found by reading it."""
    if (name, split, repr(config)) in _CHECKED:
        return
    where = f"{config.name}/{split}"
    for file in files:
        try:
            columns = pq.read_schema(file).names
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{file}: can't be read as Parquet ({str(error).splitlines()[0]})") from None
        for key, column in [("text", c) for c in config.text] + [("label", config.label)]:
            if column not in columns:
                raise ConfigError(f"dataset.{key}={column}: {where} has no such column; it has {', '.join(columns)}")
    table = read(DataSource({split: list(files)}, name), split, [*config.text, config.label])
    if table.num_rows == 0:
        raise ConfigError(f"dataset={config.name}: the split {split} is empty ({files[0]})")
    for column in config.text:
        if not pa.types.is_string(table.schema.field(column).type) and not pa.types.is_large_string(
            table.schema.field(column).type
        ):
            raise ConfigError(f"dataset.text={column}: {where} holds {table.schema.field(column).type}, not text")
        if table.column(column).null_count:
            row = pc.index(pc.is_null(table.column(column)), True).as_py()
            raise ConfigError(f"dataset.text={column}: {where} row {row} has no text")
    labels(config, table, where)
    _CHECKED.add((name, split, repr(config)))
