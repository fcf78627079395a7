"""Columns of CSV, JSON lines and Parquet files, as texts: what they mean is decided elsewhere.

Only the columns that are asked for are parsed. `/a/b` names a field of a nested one, where no column is called so: a
JSON pointer (RFC 6901).
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from peftbench.data import jsonlines
from peftbench.data.kinds import Columns
from peftbench.errors import ConfigError, first_line

#: What `dataset.separator` may be besides a character of its own.
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " ", "\\t": "\t"}

#: Python's own: pyarrow takes half of a compressed file for a whole one.
_UNPACK = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}

#: What a file begins with that is something else than its name or key says.
_BEGINNINGS = {
    b"\x1f\x8b": "it is compressed: give it a name that ends in .gz",
    b"PK\x03\x04": "it is a spreadsheet or another zip archive: save it as CSV",
    b"\xd0\xcf\x11\xe0": "it is a spreadsheet: save it as CSV",
    b"PAR1": "it is Parquet: dataset=parquet",
    b"\xff\xfe": "it is UTF-16: dataset.encoding=utf-16",
    b"\xfe\xff": "it is UTF-16: dataset.encoding=utf-16",
}

#: Arrow's block size is an int32.
_LARGEST_BLOCK = 2**31 - 1


def read(file: Path, wanted: Sequence[str], *, form: str, separator: str | None, encoding: str | None) -> Columns:
    """The wanted columns of a file; those that it doesn't have are missing.

    Args:
        form: `csv`, `jsonl` or `parquet`.
        separator: between a CSV file's columns; None: a comma. `encoding`: None: UTF-8.

    Raises:
        ConfigError: the file can't be read as that.
    """
    try:
        if form == "parquet":
            return _parquet(file, wanted)
        content = _decoded(file, encoding)
        if form == "csv":
            return _csv(content, wanted, separator or ",")
        try:
            return jsonlines.read(content, wanted)
        except UnicodeDecodeError:
            raise _not_utf8(content) from None
    except (pa.ArrowException, OSError, UnicodeError, EOFError, csv.Error, MemoryError, RecursionError) as error:
        reason = first_line(error)
        raise ConfigError(f"{file}: can't be read as {form} ({reason[:300]})") from None
    except ConfigError as error:
        raise ConfigError(f"{file}: can't be read as {form}: {error}") from None


def packed(file: Path) -> str:
    """The ending of a compressed file's name; empty: it is none."""
    return file.suffix if file.suffix in _UNPACK else ""


def _decoded(file: Path, encoding: str | None) -> bytes:
    """A text file's content as UTF-8, unpacked where its name says that it is compressed."""
    content = file.read_bytes()
    if packed(file):
        try:
            content = _UNPACK[file.suffix](content)
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
            raise ConfigError(f"it is no whole {file.suffix} file ({error})") from None
    if encoding is not None:
        return content.decode(encoding).removeprefix("\ufeff").encode()
    for beginning, what in _BEGINNINGS.items():
        if content.startswith(beginning):
            raise ConfigError(what)
    return content.removeprefix(b"\xef\xbb\xbf")


def _not_utf8(content: bytes) -> ConfigError:
    try:
        content.decode()
        where = ""
    except UnicodeDecodeError as error:
        where = f" (byte 0x{content[error.start]:02x} in line {content[: error.start].count(10) + 1})"
    return ConfigError(f"it isn't UTF-8{where}; dataset.encoding says what it is, such as latin-1, cp1252 or utf-16")


def _csv(content: bytes, wanted: Sequence[str], separator: str) -> Columns:
    import pyarrow.csv

    lines = csv.reader(
        io.TextIOWrapper(io.BytesIO(content), newline="", errors="replace", encoding="utf-8"), delimiter=separator
    )
    names = next((line for line in lines if line), None)
    if names is None:
        raise ConfigError("it is empty")
    if any("\ufffd" in name for name in names):
        raise _not_utf8(content)
    content = content if content.endswith((b"\n", b"\r")) else content + b"\n"
    chosen = [name for name in dict.fromkeys(wanted) if names.count(name) == 1]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            # One block: a text may be longer than any block that is fixed beforehand.
            read_options=pyarrow.csv.ReadOptions(block_size=min(max(len(content) + 1, 1 << 20), _LARGEST_BLOCK)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=chosen or [names[0]],
                column_types=dict.fromkeys([*chosen, names[0]], pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise (_not_utf8(content) if "invalid UTF8" in str(error) else error) from None
    values = {name: table.column(name).to_pylist() for name in chosen}
    return Columns(values, list(dict.fromkeys(names)), {name for name in names if names.count(name) > 1}, len(table))


def _parquet(file: Path, wanted: Sequence[str]) -> Columns:
    with pq.ParquetFile(file, memory_map=False) as opened:
        schema = opened.schema_arrow
        paths = {name: _path(name, schema) for name in wanted}
        tops = {path[0] for path in paths.values() if path is not None and schema.names.count(path[0]) == 1}
        # A name with dots brings the fields that are called so along: what is taken is told by the whole name.
        table = opened.read(columns=sorted(tops)) if tops else None
        count = opened.metadata.num_rows
    values = {}
    for name, path in paths.items():
        if path is not None and path[0] in tops and table is not None:
            values[name] = _texts(table.column(path[0]), path[1:])
    names = [p for f in schema for p in _pointers(f)]
    return Columns(values, names, {name for name in schema.names if schema.names.count(name) > 1}, count)


def _path(name: str, schema: pa.Schema) -> list[str] | None:
    """The column and the fields in it that a name means, if they are there."""
    if name in schema.names:
        return [name]
    first, *inner = jsonlines.pointed(name) or [""]
    if not inner or schema.names.count(first) != 1:
        return None
    kind = schema.field(first).type
    for part in inner:
        if not pa.types.is_struct(kind) or kind.get_field_index(part) < 0:
            return None
        kind = kind.field(part).type
    return [first, *inner]


def _pointers(f: pa.Field, before: str = "") -> Iterable[str]:
    """Names a column, or, for a nested one, the JSON pointers of its fields."""
    if not pa.types.is_struct(f.type):
        return [f"{before}/{jsonlines.escaped(f.name)}" if before else f.name]
    here = f"{before}/{jsonlines.escaped(f.name)}"
    return [name for i in range(f.type.num_fields) for name in _pointers(f.type.field(i), here)]


def _texts(column: pa.ChunkedArray, inner: list[str]) -> list[Any]:
    import pyarrow.compute as pc

    for part in inner:
        column = pc.struct_field(column, part)
    kind = _as_text(column.type)
    if kind is None:
        return [None if value is None else jsonlines.Structure(str(column.type)) for value in column.to_pylist()]
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    texts = column.cast(kind).to_pylist()
    if pa.types.is_decimal(column.type):
        return [None if text is None else jsonlines.NumberText(text) for text in texts]
    return texts


def _as_text(kind: pa.DataType) -> pa.DataType | None:
    """Chooses the type a column is cast to: texts, or lists of texts; None: neither is possible."""
    if pa.types.is_dictionary(kind):
        return _as_text(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return _as_text(kind.storage_type)
    if re.match(r"(large_|fixed_size_)?list(_view)?<", str(kind)):
        inner = _as_text(kind.value_type)
        return None if inner is None else pa.list_(inner)
    return None if pa.types.is_nested(kind) else pa.string()
