"""What is warned of a row's runs, said once for runs that differ in their seed."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from peftbench.results import warnings
from peftbench.results.records import RunRecord
from peftbench.results.report import estimated
from peftbench.results.report.suites import RowName, in_full
from peftbench.results.warnings import WarningKind

#: Warnings that are about costs.
_OF_FIGURES = (WarningKind.BUSY_TRAINING, WarningKind.BUSY_INFERENCE)
#: Rows that a footnote names, at most.
_NAMED = 3
#: Peak memory beside the tensors that deserves a footnote: more than these, and more than this many bytes.
_HOLES = 1e9
_NUMBER = re.compile(r"\d[\d.e-]*")


def of_scores(runs: Sequence[RunRecord]) -> list[str]:
    """The warnings that decide whether a score means anything. Busy machines are said of the figures that they made
    worthless."""
    return list(dict.fromkeys(one["text"] for record in runs for one in _of(record) if one["kind"] not in _OF_FIGURES))


def _of(record: RunRecord) -> list[warnings.Warned]:
    """A record's warnings; of one that was made before there were any, those that follow from it."""
    return record.warnings or list(warnings.of(record))


def footnotes(runs: Mapping[tuple[RowName, str], Sequence[RunRecord]]) -> list[str]:
    """The notes that a reader must know: warnings, a line for each kind and row, and the records' own footnotes, each
    with the rows of which not all runs have it."""
    found = [text for cell, records in sorted(runs.items()) for text in _warned(cell, records)]
    return [*found, *(text for cell, records in sorted(runs.items()) for text in _holes(cell, records)), *_noted(runs)]


def _warned(cell: tuple[RowName, str], records: Sequence[RunRecord]) -> Iterator[str]:
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.config["seed"], record.key)):
        for one in _of(record):  # What differs from seed to seed is numbers.
            alike[one["kind"], _NUMBER.sub("", one["text"])].append(_named(one["text"], cell[0]))
    for texts in alike.values():
        several = len(texts) > 1 and not (len(set(texts)) == 1 and len(texts) == len(records))
        yield texts[0] + (f" ({len(texts)} of its {len(records)} runs have such a warning)" if several else "")


def _holes(cell: tuple[RowName, str], records: Sequence[RunRecord]) -> Iterator[str]:
    """Says where most of a row's peak memory is what a processor's allocator left unused between tensors."""
    found = [
        (peak, sum(parts.values()))
        for record in records
        if (peak := (record.efficiency or {}).get("peak_memory_bytes"))
        and (parts := estimated.measured(record))
        and not record.environment.get("gpu")
    ]
    peak, tensors = max(found, default=(0, 0))
    if peak - tensors > max(tensors, _HOLES):
        yield (
            f"{in_full(cell[0])} on {cell[1]}: tensors took {tensors / 1e6:,.0f} of its {peak / 1e6:,.0f} MB of peak "
            "memory; the rest is data and, mostly, holes that the processor's allocator left"
        )


def _named(text: str, row: RowName) -> str:
    """A warning's text, which begins with its method, with what tells the row from others of that method."""
    return in_full(row) + text.removeprefix(row[0]) if text.startswith(f"{row[0]} ") else text


def _noted(runs: Mapping[tuple[RowName, str], Sequence[RunRecord]]) -> Iterator[str]:
    has: dict[str, dict[tuple[RowName, str], int]] = defaultdict(lambda: defaultdict(int))
    for cell, records in sorted(runs.items()):
        for record in records:
            for note in dict.fromkeys(record.footnotes):
                has[note][cell] += 1
    for note, cells in has.items():
        some = [
            f"{n} of {len(runs[cell])} runs of {in_full(cell[0])} on {cell[1]}"
            for cell, n in cells.items()
            if n < len(runs[cell])
        ]
        more = f" and {len(some) - _NAMED} rows more" if len(some) > _NAMED else ""
        yield f"{note} ({', '.join(some[:_NAMED])}{more})" if some else note
