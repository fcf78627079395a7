"""Where a data set's rows are: local Parquet files, the hub, or a generator.

Everything ends as Parquet files, so that a run never imports `datasets` (0.3 s and a thread) nor asks the network.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from peftbench.config import targets
from peftbench.config.dataset_types import DatasetConfig
from peftbench.data import hub_files, own_files, parquet_cache
from peftbench.data.examples import NO_LABEL, column
from peftbench.data.readers import reader
from peftbench.errors import ConfigError, NotApplicable, first_line
from peftbench.system import fingerprint
from peftbench.system.fetching import HubError


@dataclass(frozen=True)
class DataSource:
    """Parquet files by split (a split that isn't there is missing from the dict), and a hash of the whole.

    Attributes:
        renamed: by split, where its columns are called otherwise: the name in the file by the name here.
        parts: of a mixture, its parts' by name; it has no files of its own.
        checksums: by file the hash of its contents when it was found.
        lasting: whether the fingerprint says all of its contents and they never change (a commit of the hub's), so that
            nothing need be hashed.
    """

    files: dict[str, list[str]]
    fingerprint: str
    renamed: dict[str, dict[str, str]] = field(default_factory=dict)
    parts: dict[str, "DataSource"] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    lasting: bool = False


def locate(config: DatasetConfig, *, data_root: str | None, cache: Path, train: bool = True) -> DataSource:
    """Find a data set and check what can be checked before training: splits, columns, labels, readable files.

    Args:
        data_root: a folder of hub-like data sets, `<data_root>/<last part of path>/[<config>/]<split>-*.parquet`;
            None: the hub, or `path` itself where it is a folder.
        cache: where sets that aren't Parquet files are kept as such.
        train: whether the training split is needed.

    Raises:
        NotApplicable: there is no training split, and it is needed.
        ConfigError: missing, unreadable, empty, or not what the data set's file says.
    """
    if config.parts:
        parts = {part.name: locate(part, data_root=data_root, cache=cache, train=train) for part in config.parts}
        shots = any(config.held_out_shots or [])
        for part in config.held_out or []:
            parts[part.name] = locate(part, data_root=data_root, cache=cache, train=shots)
        identities = [[name, part.fingerprint] for name, part in parts.items()]
        return DataSource({}, fingerprint.of_json(identities), parts=parts)
    if config.generator is not None:
        source = _generated(config, cache)
    elif config.format is not None:
        source = _own(config, cache)
    elif config.path is None:
        raise ConfigError(f"dataset={config.name}: needs dataset.path, dataset.generator or files of your own")
    elif data_root is not None:
        source = _local(config, Path(data_root))
    elif Path(config.path).is_dir():
        source = _local(config, Path(config.path).resolve().parent)
    else:
        source = _from_hub(config, cache)
    if config.format is None:
        called = dict(config.columns or {})
        renamed = {**dict.fromkeys(source.files, called), config.train: {**called, **(config.train_columns or {})}}
        source = replace(source, renamed=renamed)
    if config.drop_unanswered and config.answers:
        source = _answered(source, config.answers, cache)
    if not source.lasting:
        source = replace(source, checksums=checksums(file for split in source.files.values() for file in split))
    _check(config, source)
    if train and config.train not in source.files:
        splits = ", ".join(source.files)
        raise NotApplicable(f"dataset.train={config.train}: the data has no such split; it has {splits}")
    return source


def wanted_splits(config: DatasetConfig) -> list[str]:
    """The splits a run reads: train and the official evaluation splits."""
    return list(dict.fromkeys([config.train, *config.evaluation]))


def read(source: DataSource, split: str, columns: list[str]) -> pa.Table:
    """Some columns of a split, in the order of its files; of `idx.question` the whole column `idx`.

    Raises:
        ConfigError: a file can't be read, or isn't any more what it was when it was found.
    """
    in_file = source.renamed.get(split, {})
    names = list(dict.fromkeys(name if name in in_file else name.split(".")[0] for name in columns))
    tables = []
    for file in source.files[split]:
        check_unchanged(file, source.checksums)
        try:
            # Not memory-mapped: a file may be replaced while a sweep runs.
            wanted = [in_file.get(name, name) for name in names]
            table = pq.read_table(
                file, columns=[name.split(".")[0] for name in wanted], memory_map=False, partitioning=None
            )
            tables.append(pa.table([_inner(table, name) for name in wanted], names=names))
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{file}: can't be read as Parquet ({first_line(error)})") from None
    return pa.concat_tables(tables)


def checksums(files: Iterable[str]) -> dict[str, str]:
    """Hashes files: path -> hash of the contents. Raises ConfigError for a file that can't be read."""
    try:
        return {file: fingerprint.of_file(Path(file)) for file in files}
    except OSError as error:
        raise ConfigError(f"{error.filename}: can't be read ({error.strerror})") from None


def check_unchanged(file: str, expected: Mapping[str, str]) -> None:
    """Raises ConfigError for a file whose contents aren't those that `checksums` found: what is made of it would be
    kept, and recorded, under the name of the others."""
    try:
        same = file not in expected or fingerprint.of_file(Path(file)) == expected[file]
    except OSError as error:
        raise ConfigError(f"{file}: can't be read ({error.strerror})") from None
    if not same:
        raise ConfigError(
            f"{file}: was changed after the run had been prepared; the same line starts with what is there now"
        )


def _inner(table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column; of `lex.text` the field of a struct column, which `dataset.columns` may give a name of its own."""
    first, *inner = name.split(".")
    values = table.column(first)
    for part in inner:
        values = pc.struct_field(values, part)
    return values


def count(source: DataSource, split: str) -> int:
    """The rows of a split."""
    return sum(pq.read_metadata(file).num_rows for file in source.files[split])


def _configs(config: DatasetConfig) -> dict[str, str | None]:
    """Maps each split to the hub config that holds it."""
    own = dict.fromkeys(wanted_splits(config), config.config)
    return {**own, config.train: config.train_config or config.config}


def _local(config: DatasetConfig, root: Path) -> DataSource:
    files, found_in = {}, {}
    for split, name in _configs(config).items():
        folder = root / str(config.path).rstrip("/").split("/")[-1]
        folder = folder / name if name else folder
        if not folder.is_dir() and split == config.train != config.evaluation[0]:
            continue  # Not every method looks at it.
        if not folder.is_dir():
            raise ConfigError(f"data_root={root}: there is no folder {folder} for dataset={config.name}")
        found_in[split] = folder
        shards = sorted([*folder.glob(f"{split}-*.parquet"), *folder.glob(f"{split}.parquet")])
        if shards:
            files[split] = [str(file.resolve()) for file in shards]
    split = config.evaluation[0]
    if split not in files:
        present = ", ".join(sorted(f.name for f in found_in[split].iterdir())) or "nothing"
        raise ConfigError(f"data_root={root}: {found_in[split]} has no {split}-*.parquet (it has {present})")
    return DataSource(files, fingerprint.of_files(Path(f) for shards in files.values() for f in shards))


def _own(config: DatasetConfig, cache: Path) -> DataSource:
    """The user's own files, kept under a name of everything that decides what they become."""
    name, splits = own_files.identity(config), [config.train, config.evaluation[0]]
    files = parquet_cache.tables(cache / "data" / name[:32], splits, lambda: own_files.tables(config))
    return DataSource(files, name, dict.fromkeys(splits, own_files.stored(config)))


def _generated(config: DatasetConfig, cache: Path) -> DataSource:
    generate = targets.function("dataset.generator", config.generator, dict[str, pa.Table])
    try:
        splits = generate()
    except Exception as error:
        raise ConfigError(f"dataset.generator={config.generator}: {error}") from None
    # Named by its rows too: a changed generator can't meet a stale file.
    return content_named(splits, cache)


def _from_hub(config: DatasetConfig, cache: Path) -> DataSource:
    configs, revision = _configs(config), config.revision or config.commit
    try:
        files, commit = hub_files.get(
            str(config.path),
            configs,
            revision=revision,
            pattern=config.files,
            needed=[config.evaluation[0]],
        )
    except HubError as error:
        at = f" at {revision}" if revision else ""
        raise ConfigError(
            f"dataset={config.name}{_wrong(config, error)}: can't get {config.path}{at}: {error}; or point data_root= "
            f"at a folder that holds {str(config.path).split('/')[-1]}/{config.config or ''}, or use dataset=demo"
        ) from None
    names = "+".join(str(name) for name in dict.fromkeys([config.config, config.train_config or config.config]))
    name = f"{config.path}/{names}@{commit}" + (f" {config.files}" if config.files else "")
    texts = [name for name in {*config.text, *(config.group or []), config.answers} if name]
    read = {split: hub_files.as_parquet(shards, texts, name=name, cache=cache) for split, shards in files.items()}
    return DataSource(read, name, lasting=True)


def _wrong(config: DatasetConfig, error: HubError) -> str:
    """The key that is wrong, where it is one."""
    value = getattr(config, error.about) if error.about else None
    return f" dataset.{error.about}={'null' if value is None else value}" if error.about else ""


def _answered(source: DataSource, answers: str, cache: Path) -> DataSource:
    """The rows that have a right answer, in files of their own where others are left out."""
    files = dict(source.files)
    for split, shards in source.files.items():
        right = [bool(value) for value in column(read(source, split, [answers]), answers)]
        if not all(right):
            where = source.renamed.get(split, {}).get(answers, answers)
            folder = cache / "data" / fingerprint.of_json([source.fingerprint, split, where])[:32]
            files |= parquet_cache.tables(folder, [split], functools.partial(_some, split, shards, right))
    return replace(source, files=files)


def _some(split: str, files: Sequence[str], chosen: Sequence[bool]) -> dict[str, pa.Table]:
    """A split's rows that are chosen."""
    every = pa.concat_tables([pq.read_table(file, memory_map=False, partitioning=None) for file in files])
    return {split: every.filter(pa.array(chosen))}


def content_named(splits: dict[str, pa.Table], cache: Path) -> DataSource:
    """Tables kept as Parquet in a folder named by their rows."""
    name = fingerprint.of_json({split: table.to_pydict() for split, table in splits.items()})
    # The same values may be written as other types.
    types = {split: table.schema.remove_metadata().to_string() for split, table in splits.items()}
    return DataSource(_keep(splits, cache / "data" / fingerprint.of_json([name, types])[:16]), name)


def _keep(splits: dict[str, pa.Table], folder: Path) -> dict[str, list[str]]:
    """Tables in a folder of the cache that is named by them."""
    return parquet_cache.tables(folder, splits, lambda: splits)


def _check(config: DatasetConfig, source: DataSource) -> None:
    split = config.evaluation[0]
    if split not in source.files:
        raise ConfigError(f"dataset.evaluation={split}: the data has no such split; it has {', '.join(source.files)}")
    for split in source.files:
        _check_split(config, source, split)


#: Fingerprint, split and configuration of what was read through in this process.
_CHECKED: set[tuple[str, str, str]] = set()


def _check_split(config: DatasetConfig, source: DataSource, split: str) -> None:
    """Read every wanted column once a process: half a file is only found by reading it."""
    if (source.fingerprint, split, repr(config)) in _CHECKED:
        return
    where, read_by, renamed = f"{config.name}/{split}", reader(config), source.renamed.get(split, {})
    for file in source.files[split]:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"{file}: can't be read as Parquet ({first_line(error)})") from None
        for name in read_by.columns:
            _check_column(config, schema, name, where=where, renamed=renamed)
    table = read(source, split, read_by.columns)
    if table.num_rows == 0:
        raise ConfigError(f"dataset={config.name}: the split {split} is empty ({source.files[split][0]})")
    read_by.check(table, where)
    if split == config.train and config.label in read_by.columns and set(column(table, config.label)) == {NO_LABEL}:
        raise ConfigError(f"dataset.train={split}: {where} has no labels (all are {NO_LABEL}): a hidden test")
    _CHECKED.add((source.fingerprint, split, repr(config)))


def _check_column(config: DatasetConfig, schema: pa.Schema, name: str, *, where: str, renamed: dict[str, str]) -> None:
    first, *inner = renamed.get(name, name).split(".")
    key = "text" if name in config.text else "label" if name == config.label else "columns"
    names = schema.names
    first = renamed.get(first, first)
    if first not in names:
        raise ConfigError(f"dataset.{key}={name}: {where} has no such column; it has {', '.join(names)}")
    kind = schema.field(first).type
    if inner and not (pa.types.is_struct(kind) and kind.get_field_index(inner[0]) >= 0):
        raise ConfigError(f"dataset.{key}={name}: {where} has no such field; {first} is {kind}")
