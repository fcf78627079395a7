"""Which files of the hub a data set's splits are, and reading those that aren't Parquet.

A set that the hub has as a loading script alone is read from the hub's own conversion (`refs/convert/parquet`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from peftbench.data import parquet_cache
from peftbench.errors import ConfigError, first_line
from peftbench.system import download, fingerprint
from peftbench.system.fetching import HubError

#: Where a split lies unless a data set's file says it: in a config's folder, or in none.
_IN_CONFIG = ("{config}/{split}-*.parquet", "{config}/{split}.parquet", "data/{config}/{split}-*.parquet")
_WITHOUT = ("{split}-*.parquet", "{split}.parquet", "data/{split}-*.parquet")

#: Raised when a file is read as other values than before.
_READER = 1


def get(
    repository: str,
    configs: Mapping[str, str | None],
    *,
    revision: str | None,
    pattern: str | None = None,
    needed: Sequence[str],
) -> tuple[dict[str, list[Path]], str]:
    """The files of some splits, downloaded if need be, and the commit that they are of.

    Args:
        configs: by split the hub config that it is a part of.
        pattern: where the files lie, with `{config}` and `{split}`; None: where Parquet files usually do.
        needed: splits without which there is nothing to do.

    Raises:
        HubError: the hub doesn't give them, or has no file of a split that is needed.
    """
    patterns = {split: _patterns(split, config, pattern) for split, config in configs.items()}

    def select(paths: Sequence[str]) -> list[str]:
        for split in needed:
            if not download.matching(paths, patterns[split]):
                raise HubError(f"it has no {patterns[split][0]}; it has {_shown(paths)}", about="config")
        return download.matching(paths, [one for every in patterns.values() for one in every])

    snapshot = download.fetch(repository, select, kind="dataset", revision=revision)
    files = {split: download.matching(snapshot.files, every) for split, every in patterns.items()}
    paths = {split: [snapshot.folder / name for name in names] for split, names in files.items() if names}
    return paths, snapshot.commit


def _patterns(split: str, config: str | None, pattern: str | None) -> list[str]:
    usual = _IN_CONFIG if config else _WITHOUT
    every = [pattern] if pattern else usual
    return [one.replace("{split}", split).replace("{config}", config or "default") for one in every]


def _shown(paths: Sequence[str]) -> str:
    """The data files of a repository, folder by folder, in a few words."""
    data = [path for path in paths if path.endswith((".parquet", ".csv", ".json", ".jsonl", ".py"))]
    folders = sorted({path.rpartition("/")[0] + "/" if "/" in path else path for path in data})
    return ", ".join(folders[:12]) + (f" and {len(folders) - 12} others" if len(folders) > 12 else "") or "no data"


def as_parquet(files: Sequence[Path], texts: Sequence[str], *, name: str, cache: Path) -> list[str]:
    """The same files, those that are CSV as Parquet in the cache.

    Args:
        texts: columns that are text whatever stands in them.
        name: what the files are of, commit included.
    """
    return [
        str(file) if file.suffix == ".parquet" else _converted(file, texts, name=name, cache=cache) for file in files
    ]


def _converted(file: Path, texts: Sequence[str], *, name: str, cache: Path) -> str:
    if file.suffix != ".csv":
        raise ConfigError(f"dataset.files: {file.name} is neither Parquet nor CSV")
    folder = cache / "data" / fingerprint.of_json([name, file.name, sorted(texts), _READER])[:32]
    return parquet_cache.tables(folder, [file.stem], lambda: {file.stem: _read_csv(file, texts)})[file.stem][0]


def _read_csv(file: Path, texts: Sequence[str]) -> pa.Table:
    """A CSV file with a header; a field may hold line breaks. No text counts as missing, as "NA" would."""
    try:
        return pyarrow.csv.read_csv(
            file,
            # A row must lie within a block.
            read_options=pyarrow.csv.ReadOptions(block_size=max(1 << 20, min(file.stat().st_size + 1, 1 << 30))),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(texts, pa.string())),
        )
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{file}: can't be read as CSV ({first_line(error)})") from None
