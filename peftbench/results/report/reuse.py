"""A report that would say what the last one said: nothing that it is made of has changed since.

<results_dir>/cache/report.json   what the last report of all runs said, with its checksum; deleting it loses nothing
"""

import contextlib
import hashlib
import importlib.metadata
import itertools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from peftbench.config import paths
from peftbench.results import index, reading
from peftbench.results.folders import Folder
from peftbench.results.reading import Listed
from peftbench.system import cached, fingerprint, redact

_FILE = "report.json"
#: What a report is made of beside records, under the results folder.
_BESIDE = (Folder.PREDICTIONS, Folder.CURVES, Folder.FINDINGS, Folder.ESTIMATES)
#: The libraries that figures and pages are made by.
_LIBRARIES = ("numpy", "scipy", "pyarrow", "jinja2")


class Said(msgspec.Struct):
    """The words of a report of all runs of one folder.

    Attributes:
        wide, narrow: its tables for wide terminals and for others; "" where there is no completed run.
        unreadable, doubtful: lines for files that hold no record, and for those that aren't believed.
        completed, failed: numbers of runs.
        files: by name the hashes of the files that it wrote.
        made_of: `Sources.made_of`.
    """

    wide: str
    narrow: str
    unreadable: list[str]
    doubtful: list[str]
    completed: int
    failed: int
    files: dict[str, str] = {}
    made_of: str = ""


class Sources(msgspec.Struct):
    """The sources that a report is made of: their hash, whether all of them changed so long ago that no change can be
    missed, and the files under `records/`."""

    made_of: str
    settled: bool
    records: Listed


def sources(root: Path) -> Sources | None:
    """The sources that the report of a results folder is made of, to be asked for before anything is read; None: so
    little that making it anew takes no longer than this."""
    start, newest, records = time.time_ns(), 0, reading.listed(root / Folder.RECORDS)
    if len(records) < index.WORTH:
        return None
    versions = [sys.version, *map(importlib.metadata.version, _LIBRARIES), fingerprint.of_code(paths.PACKAGE)]
    hashed = hashlib.sha256("\0".join(versions).encode())
    rest = (*(root / name for name in _BESIDE), paths.CONF)
    for path, stamp in itertools.chain(records, *map(reading.listed, rest)):
        hashed.update(f"{path}\0{stamp}\0".encode(errors="surrogateescape"))
        if stamp is not None:
            newest = max(newest, stamp[1], stamp[2])
    return Sources(hashed.hexdigest(), newest + index.SETTLED_NS < start, records)


def keep(root: Path, made_of: Sources | None, summary: Said, written: Sequence[Path]) -> None:
    """Keep what a report said for the next one, where the folder is ours to write in."""
    if made_of is None or not made_of.settled or not index.writable(root):
        return
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in written}
    entry = msgspec.structs.replace(summary, files=files, made_of=made_of.made_of)
    with contextlib.suppress(OSError):
        cached.write(root / Folder.CACHE / _FILE, lambda file: file.write_bytes(msgspec.json.encode(entry)))


def last(root: Path, made_of: Sources | None) -> Said | None:
    """The words of the last report, if this one would say the same and its files are as it wrote them."""
    if made_of is None:
        return None
    with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):  # Whatever is wrong with it, it is made anew.
        summary = cached.read(
            root / Folder.CACHE / _FILE, lambda file: msgspec.json.decode(file.read_bytes(), type=Said)
        )
        if (
            summary is not None
            and summary.made_of == made_of.made_of
            and all(_holds(root / n, h) for n, h in summary.files.items())
        ):
            return summary
    return None


def _holds(file: Path, hashed: str) -> bool:
    """True if a file has the bytes that were written, and none of the secrets that there may be by now."""
    content = file.read_bytes()
    text = content.decode()
    return hashlib.sha256(content).hexdigest() == hashed and redact.redact(text) == text
