"""Soft prompts in words: what records say of the tokens nearest to every virtual one."""

from collections.abc import Iterable, Mapping
from typing import Any

from peftbench import escape
from peftbench.records import RunRecord

NOTE = "The vocabulary's nearest tokens to every virtual token, by cosine; of several seeds the first."


def first_of_each(records: Iterable[RunRecord], cells: Mapping[int, tuple[Any, str]]) -> list[RunRecord]:
    """Of every cell with soft prompts the record of its first seed, in the cells' order.

    Args:
        cells: by a record's `id` its row and column.
    """
    found: dict[tuple[Any, str], RunRecord] = {}
    for record in sorted(records, key=lambda r: (r.config["seed"], r.key)):
        if record.learnt.get("soft_prompt"):
            found.setdefault(cells[id(record)], record)
    return [found[cell] for cell in sorted(found)]


def markdown(title: str, record: RunRecord) -> str:
    """One run's prompt, folded away: a line a virtual token."""
    lines = [
        f"{number}. " + ", ".join(f"{escape.code(near['token'])} {near['similarity']:.2f}" for near in nearest)
        for number, nearest in enumerate(record.learnt["soft_prompt"], start=1)
    ]
    return "\n".join([f"<details><summary>{escape.markup(title)}</summary>", "", *lines, "", "</details>"])
