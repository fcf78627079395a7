"""What identifies local inputs: a hash of their bytes."""

import functools
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def of_json(value: Any) -> str:
    """A hash of a JSON value that doesn't depend on the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def of_files(files: Iterable[Path]) -> str:
    """A hash of files' names and contents, in the order of their names."""
    return of_json([[file.name, of_file(file)] for file in sorted(files, key=lambda f: f.name)])


def of_file(file: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    return _of_file(file, *_stamp(file))


def _stamp(file: Path) -> tuple[int, int]:
    stat = file.stat()
    return stat.st_size, stat.st_mtime_ns


@functools.cache
def _of_file(file: Path, size: int, mtime_ns: int) -> str:
    """Cached on size and time of change: a sweep asks for the same weights in every cell."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
