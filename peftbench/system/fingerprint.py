"""What identifies local inputs: a hash of their bytes."""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def of_json(value: Any) -> str:
    """A hash of a JSON value that doesn't depend on the order of keys."""
    return of_text(text(value))


def text(value: Any) -> str:
    """The JSON text that `of_json` hashes."""
    return _ENCODER.encode(value)


def object_text(parts: Mapping[str, str]) -> str:
    """`text` of an object, of whose values the texts are at hand."""
    return "{" + ",".join([f"{_name(name)}:{parts[name]}" for name in sorted(parts)]) + "}"


@functools.lru_cache(maxsize=1024)
def _name(name: str) -> str:
    """`text` of a key: a thousand records have the same few."""
    return text(name)


def of_text(written: str) -> str:
    """A hash of a text."""
    return hashlib.sha256(written.encode()).hexdigest()


def of_files(files: Iterable[Path]) -> str:
    """A hash of files' names and contents, in the order of their names."""
    return of_json([[file.name, of_file(file)] for file in sorted(files, key=lambda f: f.name)])


def of_file(file: Path) -> str:
    """A hash of a file's contents, 64 hex digits."""
    return _of_file(file, stamp(file))


@functools.cache
def of_code(package: Path) -> str:
    """A hash of the Python files under a folder: what the code that makes a cache entry is called in its name."""
    return of_json([[str(file.relative_to(package)), of_file(file)] for file in sorted(package.rglob("*.py"))])


Stamp = tuple[int, int, int, int]


def stamp(path: Path) -> Stamp:
    """The figures that change when a file, or the names in a folder, change: size, time of change in ns (its own, which
    nobody can set, too), inode."""
    return stamp_of(path.stat())


def stamp_of(stat: os.stat_result) -> Stamp:
    """`stamp` of what the system says of a file."""
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@functools.cache
def _of_file(file: Path, stamp: Stamp) -> str:
    """Cached on the stamp: a sweep asks for the same weights in every cell."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
