"""Cutting examples to a maximum length: what may be cut is, from its end; everything else stays whole."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from peftbench.errors import TooLong

#: By name (`input_ids`, ...) one list a text.
Lines = dict[str, list[list[int]]]


@dataclass
class Posed:
    """The texts of one sequence, and by name the characters [start, end) of them that must stay."""

    fields: dict[str, str]
    must_stay: dict[str, tuple[int, int]] = field(default_factory=dict)


def fit(
    tokenizer: PreTrainedTokenizerBase,
    posed: Sequence[Posed],
    *,
    render: Callable[[list[dict[str, str]]], Lines],
    beside: Sequence[int],
    cuttable: Sequence[str],
    max_length: int,
) -> tuple[Lines, set[int]]:
    """Token ids of sequences, none longer than `max_length` with what comes beside them, and which of them were cut.

    Args:
        render: from fields to token ids.
        beside: how many tokens each sequence gets besides: its answer's.
        cuttable: names of the fields that may be cut: the longest first, until it is as long as the next.

    Raises:
        TooLong: what may not be cut is too long already; all such texts are counted.
    """
    current = list(posed)
    lines = render([sequence.fields for sequence in current])

    def excess(i: int) -> int:
        return len(lines["input_ids"][i]) + beside[i] - max_length

    @functools.cache  # Many questions are asked about one text.
    def spans(text: str) -> list[tuple[int, int]]:
        return tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]

    long = [i for i in range(len(current)) if excess(i) > 0]
    cut = set(long)
    needed: dict[int, int] = {}
    while long:
        for i in long:
            shorter = shorten(spans, current[i], cuttable, excess(i))
            if shorter is None:
                needed[i] = excess(i) + max_length
            else:
                current[i] = shorter
        long = [i for i in long if i not in needed]
        if not long:
            break
        for name, again in render([current[i].fields for i in long]).items():
            for i, ids in zip(long, again, strict=True):
                lines[name][i] = ids
        long = [i for i in long if excess(i) > 0]
    if needed:
        raise TooLong(len(needed), max(needed.values()), total=len(posed), max_length=max_length)
    return lines, cut


def shorten(
    spans_of: Callable[[str], list[tuple[int, int]]], posed: Posed, cuttable: Sequence[str], excess: int
) -> Posed | None:
    """The sequence with `excess` tokens less, as well as can be; None if nothing is left to cut.

    Args:
        spans_of: the characters [start, end) of every token of a text.
    """
    spans = {name: spans_of(posed.fields[name]) for name in cuttable}
    fixed = {name: _fixed(spans[name], posed.must_stay.get(name)) for name in cuttable}
    left = {name: len(spans[name]) for name in cuttable}
    for _ in range(excess):
        longest = max((n for n in cuttable if left[n] > fixed[n]), key=lambda n: left[n], default=None)
        if longest is None:
            break
        left[longest] -= 1
    drops = {name: len(spans[name]) - left[name] for name in cuttable if left[name] < len(spans[name])}
    if not drops:
        return None
    result = Posed(dict(posed.fields), dict(posed.must_stay))
    for name, drop in drops.items():
        start, end = _window(spans[name], drop, posed.must_stay.get(name), len(posed.fields[name]))
        result.fields[name] = posed.fields[name][start:end]
        if name in posed.must_stay:
            result.must_stay[name] = (posed.must_stay[name][0] - start, posed.must_stay[name][1] - start)
    return result


def _fixed(spans: list[tuple[int, int]], protected: tuple[int, int] | None) -> int:
    """Counts the tokens that overlap the protected characters [start, end)."""
    return 0 if protected is None else sum(end > protected[0] and start < protected[1] for start, end in spans)


def _window(spans: list[tuple[int, int]], drop: int, protected: tuple[int, int] | None, size: int) -> tuple[int, int]:
    """Characters [start, end) that remain: `drop` tokens less at the end, and what can't be had there at the start."""
    low, high = (0, 0) if protected is None else protected
    behind = sum(start >= high for start, _ in spans)
    at_end, at_start = min(drop, behind), max(0, drop - behind)
    last = len(spans) - at_end
    end = spans[last - 1][1] if last > 0 else 0
    if at_end and end >= size:
        end = size - 1  # Several tokens of one character, as bytes are.
    start = spans[at_start][0] if at_start else 0
    if at_start and start == 0:
        start = 1
    return min(start, low), max(end, high)
