"""The names of records' files: of a completed run, of its failed tries, of a note that it can't be made.

<key>.json                 a completed run
<key>.beside-<n>.json      a completed run whose name was taken
<key>.failed-<n>.json      a failed try, n from 1
<key>.not-applicable.json  why a sweep left a run out

Functions that take `file` want the first of these, of the run in question.
"""

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path


def completed(file: Path) -> Iterator[Path]:
    """The names that a completed record may have: its own, and those beside it for when that is taken."""
    yield file
    for number in itertools.count(1):
        yield file.with_name(f"{file.stem}.beside-{number}.json")


def key_in(file: Path | str) -> str:
    """The key that a record's file is named by."""
    return os.path.basename(file).partition(".")[0]


def failures(file: Path) -> list[Path]:
    """The failed tries of a run, oldest first. Copies that somebody's file manager made of them have other names."""
    pattern = re.compile(re.escape(file.stem) + r"\.failed-([0-9]{1,9})\.json")
    try:
        with os.scandir(file.parent) as entries:
            tries = [(int(match[1]), entry.name) for entry in entries if (match := pattern.fullmatch(entry.name))]
    except (OSError, ValueError):  # There is no such folder, or can't be.
        return []
    return [file.with_name(name) for _, name in sorted(tries)]


def not_applicable(file: Path) -> Path:
    """The note of why a sweep left a run out."""
    return file.with_name(f"{file.stem}.not-applicable.json")


def give(temporary: Path, target: Path) -> None:
    """Name a finished file unless the name is taken (FileExistsError)."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # A file system without hard links: reserve the name, then fill it at once.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(temporary, target)


def give_failed(temporary: Path, file: Path) -> Path:
    """Name a finished file as a run's next failed try; returns the name."""
    number = len(failures(file)) + 1
    while True:
        target = file.with_name(f"{file.stem}.failed-{number}.json")
        try:
            give(temporary, target)
        except FileExistsError:  # Another process's try, or numbers have a gap.
            number += 1
            continue
        return target
