"""Soft prompts in words: the tokens nearest to every virtual token, as records have them."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.results.report import layout
from peftbench.system import escape

NOTE = """\
The vocabulary's nearest token to every virtual token, by cosine; of several seeds
the first. The records have five of each.
"""


def first_of_each(records: Iterable[RunRecord], cells: Mapping[int, tuple[Any, str]]) -> list[RunRecord]:
    """The record of the first seed of every cell that has soft prompts, in the order of cells.

    Args:
        cells: by a record's `id` its row and column.
    """
    by_cell: dict[tuple[Any, str], RunRecord] = {}
    having = [record for record in records if record.learnt.get("soft_prompt")]
    for record in sorted(having, key=lambda r: (r.config["seed"], r.key)):
        by_cell.setdefault(cells[id(record)], record)
    return [by_cell[cell] for cell in sorted(by_cell)]


def lines(record: RunRecord) -> list[str]:
    """One run's prompt: a line a virtual token."""
    return [
        ", ".join(f"{near['token']!r} {near['similarity']:.2f}" for near in nearest)
        for nearest in record.learnt["soft_prompt"]
    ]


def markdown(title: str, record: RunRecord) -> str:
    """One run's prompt, folded away: of every virtual token the nearest one."""
    words = [
        f"{number}\u00a0{escape.code(near[0]['token'])}\u00a0{near[0]['similarity']:.2f}"
        for number, near in enumerate(record.learnt["soft_prompt"], start=1)
        if near
    ]
    text = textwrap.fill(", ".join(words), layout.WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join([f"<details><summary>{escape.markup(title)}</summary>", "", text, "", "</details>"])
