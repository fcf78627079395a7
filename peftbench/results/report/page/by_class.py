"""How a cell answers each class: means over its runs, and what they took for what."""

from collections.abc import Mapping, Sequence
from typing import Any

from peftbench.results import by_class
from peftbench.results.records import RunRecord
from peftbench.results.report.page.document import Class, Classes

#: Classes up to which the confusion is shown: a wider table can't be read.
_MOST = 20


def classes(runs: Sequence[RunRecord]) -> Classes | None:
    """The figures of each class on the first evaluation split; None unless every run says them of the same classes."""
    figures = [one for record in runs if (one := by_class.recorded(record.scored_split)) is not None]
    if not figures or len(figures) < len(runs) or any(one["labels"] != figures[0]["labels"] for one in figures):
        return None
    labels = figures[0]["labels"]
    shares = (_means([one[name] for one in figures]) for name in ("precision", "recall", "f1"))
    rows = zip(labels, *shares, figures[0]["n"], strict=True)
    return Classes([Class(*row) for row in rows], _confusion(figures) if len(labels) <= _MOST else None)


def _means(runs: Sequence[Sequence[float]]) -> list[float]:
    """Class by class, added up in sorted order: the last digit mustn't depend on the records' order."""
    return [sum(sorted(values)) / len(values) for values in zip(*runs, strict=True)]


def _confusion(figures: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    lines = zip(*(one["confusion"] for one in figures), strict=True)
    return [[sum(counts) for counts in zip(*of_class, strict=True)] for of_class in lines]
