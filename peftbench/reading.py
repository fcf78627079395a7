"""Reads records' files, whoever wrote them, and says which of them can be believed."""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from peftbench import files, records
from peftbench.records import RecordError, RunRecord

#: Bytes that a record's file may have: a thousand times what the longest of ours have.
LARGEST = 16 << 20


def names(file: Path) -> Iterator[Path]:
    """The names that a completed record may have: its own, and those beside it for when that is taken."""
    yield file
    for number in itertools.count(1):
        yield file.with_name(f"{file.stem}.beside-{number}.json")


def home(file: Path) -> Path | None:
    """Where the completed run is recorded whose record should be this file; None: nowhere.

    A record is believed if its own key, its file's name, and its configuration with the fingerprints of its inputs all
    say the same.
    """
    for name in names(file):
        record = read(name)
        if isinstance(record, RunRecord) and record.status == "completed":
            if doubt(name, record, records.key_of(record)) is None:
                return name
        elif not os.path.lexists(name):
            return None
    return None


def doubt(file: Path, record: RunRecord, run: str) -> str | None:
    """Why a completed run's record isn't believed to be that of a run; None: it is.

    Args:
        run: the key that it should have (`records.key_of`).
    """
    if record.key != key_in(file):
        return f"its file's name is another run's, its key is {record.key}"
    if record.key != run:
        return "its key isn't that of its configuration, data and model"
    return None


def key_in(file: Path) -> str:
    """The key that a record's file is named by."""
    return file.name.partition(".")[0]


def failures(file: Path) -> list[Path]:
    """The failed tries of the run whose record would be this file, oldest first. Copies that somebody's file manager
    made of them have other names."""
    named = re.compile(re.escape(file.stem) + r"\.failed-([0-9]{1,9})\.json")
    try:
        with os.scandir(file.parent) as entries:
            found = [(int(match[1]), entry.name) for entry in entries if (match := named.fullmatch(entry.name))]
    except (OSError, ValueError):  # There is no such folder, or can't be.
        return []
    return [file.with_name(name) for _, name in sorted(found)]


def json_files(folder: Path) -> list[Path]:
    """Every file in a folder and those below it that is named as a record, whatever it is, in a fixed order."""
    folders, found = [os.fspath(folder)], []
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(".json") and not entry.name.startswith("."):
                    found.append(entry.path)
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]


def read(file: Path) -> RunRecord | RecordError:
    """One record, or why the file holds none that can be read."""
    try:
        return records.decode(files.read_plain(file, most=LARGEST))
    except RecordError as error:
        return error
    except OSError as error:
        return RecordError(f"can't be read ({error.strerror or type(error).__name__})")
