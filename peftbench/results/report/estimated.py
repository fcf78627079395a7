"""Memory by part, as it was measured in a run and as `estimate records=` says it beforehand, beside each other.

<results_dir>/estimates/memory.json      by the keys of runs what was estimated, or why it couldn't be
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.report.layout import MISSING
from peftbench.results.report.suites import RowName, in_full
from peftbench.results.shapes import Count
from peftbench.system import files

HEADING = "Memory by part"
NOTE = """\
MB of tensors at the peak of training on the longest examples: measured in the run and, in brackets, estimated from its
configuration alone, without weights or data. Of a row's runs the one that needs the most.
"""
#: What the table calls the parts of memory; others are called as records name them.
NAMES = {
    "weights_frozen": "frozen",
    "weights_trained": "trained",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "temporary": "temporary",
}
_FILE = "memory.json"


@dataclass(frozen=True)
class CellMemory:
    """A cell's memory in bytes by part, on examples of `length` tokens; `estimated` is None where nobody asked."""

    row: RowName
    column: str
    length: int | None
    measured: dict[str, int]
    estimated: dict[str, int] | None


class Estimates(msgspec.Struct, forbid_unknown_fields=True):
    """The content of the file: bytes by part, and reasons, by the keys of runs."""

    parts: dict[str, dict[str, Count]] = {}
    refused: dict[str, str] = {}


def keep(root: Path, estimates: Estimates) -> Path:
    """Write what was estimated of a folder's runs; returns the file."""
    target = root / Folder.ESTIMATES / _FILE
    files.make_folder(target.parent)
    content = msgspec.json.format(msgspec.json.encode(estimates), indent=1) + b"\n"
    files.write(target, lambda temporary: temporary.write_bytes(content))
    return target


def read(root: Path) -> tuple[dict[str, dict[str, int]], list[tuple[str, str]]]:
    """Bytes by part, by the keys of runs; and name and reason of a file that holds none."""
    path = root / Folder.ESTIMATES / _FILE
    if not path.is_file():
        return {}, []
    try:
        return msgspec.json.decode(path.read_bytes(), type=Estimates).parts, []
    except (OSError, msgspec.MsgspecError) as error:
        return {}, [(f"{Folder.ESTIMATES}/{_FILE}", f"no estimates ({type(error).__name__})")]


def measured(record: RunRecord) -> dict[str, int] | None:
    """A record's bytes by part; None where nothing was measured."""
    parts = (record.efficiency or {}).get("memory_parts_bytes")
    return parts if isinstance(parts, dict) and parts else None


def collect(
    records: Iterable[RunRecord], cells: Mapping[int, tuple[RowName, str]], estimates: Mapping[str, dict[str, int]]
) -> list[CellMemory]:
    """The memory of every cell where it was measured: of the run that needs the most.

    Args:
        cells: by a record's `id` its row and column.
        estimates: by a run's key.
    """
    by_cell: dict[tuple[RowName, str], list[tuple[int, str, RunRecord, dict[str, int]]]] = defaultdict(list)
    for record in records:
        if (parts := measured(record)) is not None:
            by_cell[cells[id(record)]].append((sum(parts.values()), record.key, record, parts))
    made = []
    for (row, column), runs in sorted(by_cell.items(), key=lambda cell: cell[0]):
        _, key, record, parts = max(runs, key=lambda run: run[:2])
        length = (record.efficiency or {}).get("memory_length")
        made.append(CellMemory(row, column, None if length is None else int(length), parts, estimates.get(key)))
    return made


def table(
    memory: Sequence[CellMemory], names: Mapping[RowName, str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Headings and lines, a line a cell: what was measured, and the estimate in brackets where there is one.

    Args:
        names: what a row is called; None: by method and variant.
    """
    every = dict.fromkeys([*NAMES, *(part for one in memory for part in one.measured)])
    parts = [part for part in every if any(part in one.measured for one in memory)]
    called = [NAMES.get(part, part.replace("_", " ")) for part in parts]
    header = ["method", "model", "data set", "tokens", "all", *called]
    return header, [_line(one, parts, names or {}) for one in memory]


def _line(one: CellMemory, parts: Sequence[str], names: Mapping[RowName, str]) -> list[str]:
    name = names.get(one.row, in_full(one.row))
    estimated = one.estimated or {}
    whole = _both(sum(one.measured.values()), sum(estimated.values()) if one.estimated is not None else None)
    numbers = [_both(one.measured.get(part), estimated.get(part)) for part in parts]
    return [name, one.row[1], one.column, MISSING if one.length is None else str(one.length), whole, *numbers]


def _both(measured: int | None, estimated: int | None) -> str:
    written = MISSING if measured is None else f"{measured / 1e6:,.1f}"
    return written if estimated is None else f"{written} ({estimated / 1e6:,.1f})"
