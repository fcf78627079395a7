"""Findings that a results folder has runs of: `reproduce finding=` leaves which records each rests on; the answer is
made of the records anew by whoever reads it.

<results_dir>/findings/<name>.json      the finding's block, the keys of its records, how many runs it has
<results_dir>/findings/<name>.svg       its picture
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from peftbench.errors import ConfigError
from peftbench.results.folders import Folder
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.reproduction import findings
from peftbench.results.reproduction.findings import Result
from peftbench.system import files


@dataclass(frozen=True)
class Tested:
    """A finding by its sweep's name, and what the records here say of it."""

    name: str
    result: Result


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a finding's file: the sweep's `finding:` block, keys of records, and how many runs the sweep
    has."""

    finding: dict[str, Any]
    keys: list[str]
    runs: int


def file(root: Path, name: str, ending: str) -> Path:
    """A finding's file in a results folder."""
    return root / Folder.FINDINGS / f"{name}.{ending}"


def keep(root: Path, name: str, block: Mapping[str, Any], records: Sequence[RunRecord], runs: int) -> Path:
    """Write which records a finding rests on; returns the file."""
    target = file(root, name, "json")
    text = json.dumps({"finding": block, "keys": sorted(record.key for record in records), "runs": runs}, indent=1)
    files.make_folder(target.parent)
    files.write(target, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
    return target


def lacking(made: int, runs: int) -> list[str]:
    """The runs that a finding still lacks, in a sentence; empty where all are recorded."""
    return [f"{runs - made} of its {runs} runs"] if made < runs else []


def read(root: Path, records: Sequence[RunRecord]) -> tuple[list[Tested], list[tuple[str, str]]]:
    """The findings of a results folder by name, judged by the believed ones of its records; and names and reasons of
    files that hold none."""
    by_key: dict[str, RunRecord] | None = None
    tested, wrong = [], []
    for path in sorted((root / Folder.FINDINGS).glob("*.json")):
        try:
            file = msgspec.json.decode(path.read_bytes(), type=_Kept)
            finding = findings.read(path.stem, {"finding": file.finding})
            by_key = dict(_believed(records)) if by_key is None else by_key
            made = [by_key[key] for key in file.keys if key in by_key]
            tested.append(Tested(path.stem, findings.judge(finding, made, lacking(len(made), file.runs))))
        except ConfigError as error:
            wrong.append((f"{Folder.FINDINGS}/{path.name}", str(error)))
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
            wrong.append((f"{Folder.FINDINGS}/{path.name}", f"not a finding ({type(error).__name__})"))
    return tested, wrong


def keys(root: Path) -> set[str]:
    """The keys of the runs that findings of a results folder rest on."""
    found: set[str] = set()
    for path in (root / Folder.FINDINGS).glob("*.json"):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found.update(msgspec.json.decode(path.read_bytes(), type=_Kept).keys)
    return found


def _believed(records: Sequence[RunRecord]) -> Iterator[tuple[str, RunRecord]]:
    return ((record.key, record) for record in records if record.key == key_of(record))
