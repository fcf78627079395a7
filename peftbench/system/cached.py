"""Cache entries: files that carry a checksum, are verified when they are read and made anew when they don't hold.

<entry>          what is kept
<entry>.sha256   the hash of its bytes, as `sha256sum` writes it; touched whenever the entry is read

An entry without a checksum, or with another's, counts as missing: it was cut, changed, or written by half.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from peftbench.system import files, fingerprint

#: What the file with an entry's checksum is called behind the entry's name.
SUFFIX = ".sha256"

T = TypeVar("T")


def write(entry: Path, fill: Callable[[Path], object]) -> None:
    """Make or replace an entry, with its checksum, and leave both on the disk.

    Args:
        fill: writes the file that it is given.

    Raises:
        OSError: the disk doesn't take it.
    """
    checksums: list[str] = []

    def filled(temporary: Path) -> None:
        fill(temporary)
        checksums.append(fingerprint.of_file(temporary))

    files.write(entry, filled)
    line = f"{checksums[0]}  {entry.name}\n"
    files.write(beside(entry), lambda temporary: temporary.write_text(line, encoding="utf-8"))


def read(entry: Path, load: Callable[[Path], T]) -> T | None:
    """The value that `load` makes of an entry's file; None: the entry is missing or doesn't hold (`holds`)."""
    return load(entry) if holds(entry) else None


def holds(entry: Path) -> bool:
    """True if an entry is there with the bytes that were written. Touches its checksum's file: the entry was used."""
    checksum = beside(entry)
    try:
        if not (entry.is_file() and checksum.is_file()):
            return False
        recorded = checksum.read_bytes()[:64].decode("ascii", errors="replace")
        if recorded != fingerprint.of_file(entry):
            return False
    except OSError:  # What can't be read is made anew.
        return False
    with contextlib.suppress(OSError):  # A cache may be read-only.
        os.utime(checksum)
    return True


def beside(entry: Path) -> Path:
    """The file that holds an entry's checksum."""
    return entry.with_name(entry.name + SUFFIX)
