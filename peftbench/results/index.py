"""The index of a results folder: every record as it was read and checked, so that the next report reads what changed.

<results_dir>/cache/records.parquet   with its checksum beside it (`system.cached`); deleting it loses nothing

A line for each file, with its stamp (size, times, inode) and the numbers of the parts that its record is made of; then
a line for each distinct part, as JSON: the runs of a sweep say most things alike. An entry counts as long as its file's
stamp is the same. An index that another version of the code wrote, or that doesn't hold, is made anew. Of several
writers the last one's stays, and each report reads whatever that doesn't have.
"""

import contextlib
import dataclasses
import functools
import os
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec

from peftbench.config import paths
from peftbench.results.folders import Folder
from peftbench.results.reading import Listed, key_of, listed, of_records, read
from peftbench.results.records import RecordError, RunRecord
from peftbench.system import cached, fingerprint
from peftbench.system.fingerprint import Stamp

_FILE = "records.parquet"
#: Lines that are written and read at a time: the library needs several times their memory.
_GROUP = 10_000
#: The entries and the bytes of text up to which a list or dictionary is one object for all that have it.
_SMALL, _SHORT = 8, 64
#: The columns of a file's stamp.
_STAMP = ("size", "changed", "own", "inode")
#: Records from which on an index is kept: fewer are read in less time than its library takes to start.
WORTH = 500
#: The share of the entries up to which new ones aren't written: to read them again takes less time. What was changed or
#: removed goes at once.
_FEW = 0.002
#: A file that changed so recently may change again without another time: on a file system that counts in seconds, or
#: whose clock isn't ours.
SETTLED_NS = 2_000_000_000
#: Fields of a record that are kept by their own parts.
_WHOLE = ("config", "environment")
_REST = [f.name for f in dataclasses.fields(RunRecord) if f.name not in _WHOLE]

#: A record, or why its file holds none; and the key that a completed run's should have (`key_of`), else "".
Read = tuple[RunRecord | RecordError, str]


class DistinctValues:
    """Distinct JSON values by number. What records say alike is one object for all of them: nothing changes it.

    Args:
        texts: distinct JSON texts, which get the first numbers.
    """

    def __init__(self, texts: Sequence[bytes] = ()) -> None:
        self._small: dict[bytes, Any] = {}
        self.texts: list[bytes] = list(texts)
        self.values: list[Any] = [self._alike(msgspec.json.decode(text)) for text in texts]

    @functools.cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {text: number for number, text in enumerate(self.texts)}  # Only where a file has to be read.

    def number(self, value: Any) -> int:
        """A value's number."""
        text = msgspec.json.encode(value)
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
            self.values.append(self._alike(value))
        return number

    def _alike(self, value: Any) -> Any:
        """The value, in which whatever is small, and elsewhere too, is one object for all that have it."""
        if type(value) is not dict and type(value) is not list:
            return value
        inner = list(value.items() if type(value) is dict else enumerate(value))
        nested = [(key, one) for key, one in inner if type(one) is dict or type(one) is list]
        for key, one in nested:
            value[key] = self._alike(one)
        if nested or len(inner) > _SMALL:
            return value
        text = msgspec.json.encode(value)
        return self._small.setdefault(text, value) if len(text) <= _SHORT else value


#: A file's stamp, the key that its record should have, and the numbers of the record's parts.
_Entry = tuple[Stamp, str, "array[int]"]


@dataclasses.dataclass
class _Index:
    """Entries by their file's name under records/."""

    parts: DistinctValues = dataclasses.field(default_factory=DistinctValues)
    entries: dict[str, _Entry] = dataclasses.field(default_factory=dict)


def scan(root: Path, files: Listed | None = None) -> Iterator[tuple[str, Read]]:
    """Every record's file of a results folder in a fixed order, with what it holds; at the end writes the index, where
    it can be written and it isn't nearly as it was.

    Args:
        files: what is listed under `records/` (`reading.listed`), where that has been asked for.
    """
    folder = root / Folder.RECORDS
    files = of_records(listed(folder) if files is None else files)
    start = time.time_ns()
    old = _read(root / Folder.CACHE / _FILE) if len(files) >= WORTH else _Index()
    new = _Index(old.parts)
    come, stale, base = 0, len(old.entries), len(os.fspath(folder)) + 1
    for file, stamp in files:
        name = file[base:]
        entry = old.entries.get(name)
        if entry is not None and entry[0] == stamp:
            new.entries[name], stale = entry, stale - 1
            yield file, (_put_together(entry[2], new.parts), entry[1])
            continue
        record, run, numbers = _fresh(Path(file), new.parts)
        settled = stamp is not None and min(stamp) >= 0 and max(stamp[1], stamp[2]) + SETTLED_NS < start
        if stamp is not None and settled and numbers is not None and _is_text(name):
            new.entries[name], come = (stamp, run, numbers), come + 1
        yield file, (record, run)
    if len(files) >= WORTH and (stale or come > len(files) * _FEW):
        _write(root, new)


def _is_text(name: str) -> bool:
    """Says whether a file's name is of whole characters: others can't be written."""
    with contextlib.suppress(UnicodeEncodeError):
        return bool(name.encode())
    return False


def _fresh(file: Path, parts: DistinctValues) -> tuple[RunRecord | RecordError, str, "array[int] | None"]:
    """The record that a file holds, read from it, its run's key, and its numbers; None for the numbers: not to be
    kept."""
    record = read(file)
    if isinstance(record, RecordError):
        return record, "", None
    run = key_of(record) if record.status == "completed" else ""
    try:
        return record, run, _taken_apart(record, parts)
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):  # Half a character of a pair has no JSON here.
        return record, run, None


def _taken_apart(record: RunRecord, parts: DistinctValues) -> "array[int]":
    """The numbers of a record's parts; its sections become the ones that others share."""
    numbers = array("i")
    for name in _WHOLE:
        whole = getattr(record, name)
        numbers.append(parts.number(list(whole)))
        own = [parts.number(value) for value in whole.values()]
        numbers.extend(own)
        setattr(record, name, dict(zip(whole, map(parts.values.__getitem__, own), strict=True)))
    rest = [parts.number(getattr(record, name)) for name in _REST]
    for name, number in zip(_REST, rest, strict=True):
        setattr(record, name, parts.values[number])
    numbers.extend(rest)
    return numbers


def _put_together(numbers: "array[int]", parts: DistinctValues) -> RunRecord:
    """The record of the numbers of its parts."""
    values = list(map(parts.values.__getitem__, numbers))
    first = 1 + len(values[0])
    second = first + 1 + len(values[first])
    return RunRecord(
        config=dict(zip(values[0], values[1:first], strict=True)),
        environment=dict(zip(values[first], values[first + 1 : second], strict=True)),
        **dict(zip(_REST, values[second:], strict=True)),
    )


@functools.cache
def _version() -> str:
    """The version of the code that reads records, checks them and makes their keys: an index is good for that alone."""
    return fingerprint.of_code(paths.PACKAGE)


def _read(file: Path) -> _Index:
    """An index; an empty one where there is none that holds."""
    with contextlib.suppress(Exception):  # Whatever is wrong with it, it is made anew.
        return cached.read(file, _load) or _Index()
    return _Index()


def _load(file: Path) -> _Index | None:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as table:
        about = table.schema_arrow.metadata or {}
        if about.get(b"version") != _version().encode():
            return None
        index, texts = _Index(), []
        for group in range(table.num_row_groups):  # One by one: of all together the memory is several times as large.
            rows = table.read_row_group(group, use_threads=False)
            lines = len(rows) - rows["file"].null_count
            _take_entries(rows[:lines], index.entries)
            texts += rows["part"][lines:].to_pylist()
    numbers = [entry[2] for entry in index.entries.values()]
    if any(len(one) and not 0 <= min(one) <= max(one) < len(texts) for one in numbers):
        raise ValueError("a part is missing")
    if len(numbers) != int(about[b"files"]):
        raise ValueError("an entry is missing")
    index.parts = DistinctValues(texts)
    return index


def _take_entries(rows: Any, entries: dict[str, _Entry]) -> None:
    """Take the entries of some lines of the file."""
    import numpy as np

    columns = [rows[name].to_pylist() for name in ("file", "run", *_STAMP)]
    parts = rows["numbers"].combine_chunks()
    numbers, begin = array("i", parts.flatten().to_numpy().astype(np.int32).tobytes()), 0
    for name, run, *stamp, length in zip(*columns, parts.value_lengths().to_pylist(), strict=True):
        entries[name] = cast("Stamp", tuple(stamp)), run, numbers[begin : begin + length]
        begin += length


def _write(root: Path, index: _Index) -> None:
    """Write the index; leave it, where the folder isn't ours to write in or the disk doesn't take it."""
    if not writable(root):
        return
    with contextlib.suppress(OSError):
        cached.write(root / Folder.CACHE / _FILE, _filler(index))


def writable(root: Path) -> bool:
    """True if caches may be written into a results folder: not into what comes with the project."""
    return paths.published() not in (folder := root.resolve(), *folder.parents) and os.access(root, os.W_OK)


def _filler(index: _Index) -> Callable[[Path], None]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    entries = list(index.entries.items())
    joined = np.frombuffer(b"".join(entry[2].tobytes() for _, entry in entries), np.int32)
    present = np.zeros(len(index.parts.texts), bool)
    present[joined] = True  # The parts of records that are gone go too.
    used, numbers = np.flatnonzero(present), (np.cumsum(present) - 1)[joined].astype(np.int32)
    ends = np.cumsum([0, *(len(entry[2]) for _, entry in entries)])
    columns = [("file", pa.string()), ("run", pa.string()), *((name, pa.uint64()) for name in _STAMP)]
    schema = pa.schema(
        [*columns, ("numbers", pa.list_(pa.int32())), ("part", pa.binary())],
        {"version": _version(), "files": str(len(entries))},
    )

    def table(length: int, **values: Any) -> pa.Table:
        return pa.table([values.get(one.name, pa.nulls(length, one.type)) for one in schema], schema)

    def fill(file: Path) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=False) as writer:
            for begin in range(0, len(entries), _GROUP):
                some = entries[begin : begin + _GROUP]
                at = ends[begin : begin + _GROUP + 1]
                stamps = np.array([entry[0] for _, entry in some], np.uint64).reshape(-1, len(_STAMP))
                lines = {"file": pa.array([name for name, _ in some]), "run": pa.array([one[1] for _, one in some])}
                lines |= {name: pa.array(stamps[:, i]) for i, name in enumerate(_STAMP)}
                offsets = pa.array((at - at[0]).astype(np.int32))
                own = pa.ListArray.from_arrays(offsets, pa.array(numbers[at[0] : at[-1]]))
                writer.write_table(table(len(some), **lines, numbers=own))
            for begin in range(0, len(used), _GROUP):
                texts = [index.parts.texts[number] for number in used[begin : begin + _GROUP]]
                writer.write_table(table(len(texts), part=pa.array(texts, pa.binary())))

    return fill
