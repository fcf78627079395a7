"""Soft prompts in words: the tokens nearest to every virtual token, as records have them."""

from collections.abc import Iterable, Mapping
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.system import escape

NOTE = "The vocabulary's nearest tokens to every virtual token, by cosine; of several seeds the first."


def first_of_each(records: Iterable[RunRecord], cells: Mapping[int, tuple[Any, str]]) -> list[RunRecord]:
    """The record of the first seed of every cell that has soft prompts, in the order of cells.

    Args:
        cells: by a record's `id` its row and column.
    """
    by_cell: dict[tuple[Any, str], RunRecord] = {}
    for record in sorted(records, key=lambda r: (r.config["seed"], r.key)):
        if record.learnt.get("soft_prompt"):
            by_cell.setdefault(cells[id(record)], record)
    return [by_cell[cell] for cell in sorted(by_cell)]


def lines(record: RunRecord) -> list[str]:
    """One run's prompt: a line a virtual token."""
    return [
        ", ".join(f"{near['token']!r} {near['similarity']:.2f}" for near in nearest)
        for nearest in record.learnt["soft_prompt"]
    ]


def markdown(title: str, record: RunRecord) -> str:
    """One run's prompt, folded away: a line a virtual token."""
    lines = [
        f"{number}. " + ", ".join(f"{escape.code(near['token'])} {near['similarity']:.2f}" for near in nearest)
        for number, nearest in enumerate(record.learnt["soft_prompt"], start=1)
    ]
    return "\n".join([f"<details><summary>{escape.markup(title)}</summary>", "", *lines, "", "</details>"])
