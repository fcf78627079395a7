"""`peftbench latency RECORD RECORD ...`: adapters of one base, served and switched, as milliseconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config import arguments
from peftbench.errors import ConfigError
from peftbench.sweep.predict import ask
from peftbench.system import escape, machine

_USAGE = "latency RECORD [RECORD ...] [batch_size=8] [length=64] [rounds=20] [model_root=DIR]"
_DEFAULTS = {"batch_size": "8", "length": "64", "rounds": "20"}
#: By option, what is allowed at the most.
_MOST = {"batch_size": 4096, "length": 100_000, "rounds": 10_000}


def main(words: Sequence[str]) -> int:
    """Print a table; returns the exit status."""
    records = [word for word in words if "=" not in word or Path(word).exists()]
    if not records:
        raise ConfigError(f"latency: takes records: {_USAGE}")
    if len(set(records)) < len(records):
        raise ConfigError("latency: a record is named twice; allowed is each once")
    settings = [word for word in words if word not in records]
    defaults = {**_DEFAULTS, "model_root": ""}
    chosen = arguments.options("latency", settings, **defaults) if settings else defaults
    how: dict[str, Any] = {name: _count(name, chosen[name]) for name in _DEFAULTS}
    how["model_root"] = chosen["model_root"] or None
    print("\n".join(map(escape.line, lines(ask("measure", records, how, module="latency"), how))))
    return 0


def _count(name: str, text: str) -> int:
    """A whole number from 1. Raises ConfigError for anything else."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _MOST[name]:
        raise ConfigError(f"latency: {name}={text}: allowed is a whole number from 1 to {_MOST[name]}")
    return int(text)


def lines(figures: dict[str, Any], how: dict[str, Any]) -> list[str]:
    """The figures that were measured (`run.latency.figures`), as lines of plain text."""
    base = figures["rows"][0]
    rows = [["", "", "one text", "", f"batch of {how['batch_size']}", ""]]
    for row in figures["rows"]:
        times = [part for key in ("single_ms", "batch_ms") for part in _times(row[key], base[key])]
        rows.append([row["name"], "" if row["kind"] == "base" else row["kind"], *times])
    for group in figures["groups"]:
        if group["mixed_ms"] is not None:
            mixed = _times(group["mixed_ms"], base["batch_ms"])
            rows.append([f"{len(group['names'])} adapters", "mixed", "", "", *mixed])
    notes = [note for group in figures["groups"] if len(group["names"]) > 1 for note in _notes(group)]
    where = f"{machine.processor() or 'processor unknown'}, {figures['threads']} threads"
    measured = f"Texts of {how['length']} tokens; medians of {how['rounds']} rounds in turns; {where}."
    return [*_aligned(rows), "", *notes, *([""] if notes else []), measured]


def _times(ms: float, base: float) -> list[str]:
    return [f"{ms:.2f} ms", f"{ms / base:.2f} x"]


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _notes(group: dict[str, Any]) -> list[str]:
    """Lines on what switching costs in a group, and what a batch that mixes it gives."""
    names = ", ".join(group["names"])
    switch = f"{names}: {group['load_ms']:.2f} ms to load one, {group['switch_ms']:.2f} ms to switch (set_adapter)"
    if group["refused"] is not None:
        return [switch, f"{names}: no mixed batch: {group['refused']}"]
    return [switch, f"{names}: a mixed batch answers as each does, to {group['mixed_difference']:.0e}"]
