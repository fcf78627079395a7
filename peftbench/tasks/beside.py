"""What a record has beside the score: further metrics, and how each class is answered."""

from typing import Any

import numpy as np

from peftbench.config.dataset_types import DatasetConfig
from peftbench.tasks.base import Answered
from peftbench.tasks.metrics import registry

#: Most classes whose confusion is recorded: it has a number for every two of them, on every split.
MOST_CLASSES = 50


def beside(config: DatasetConfig, answered: Answered, *, judged: bool) -> dict[str, Any]:
    """Further metrics (`also`, by name; None: none are asked for) and `classes` (`by_class`; None: the answers aren't
    labels of few declared classes that are scored one by one).

    Args:
        judged: whether every answer is one of the labels. A text that is none counts as some other one, which would
            tell a confusion that isn't.
    """
    names = config.labels or []
    labelled = judged and answered.groups is None and np.asarray(answered.answers).dtype.kind in "iu"
    also = registry.compute(config.also or [], answered.answers, answered.right, groups=answered.groups)
    shown = labelled and 1 < len(names) <= MOST_CLASSES
    return {"also": also or None, "classes": by_class(names, answered) if shown else None}


def by_class(names: list[str], answered: Answered) -> dict[str, list[Any]]:
    """The figures of C classes, by `labels`: `precision`, `recall`, `f1` (fractions; 0 where nothing is answered or
    right as the class, as the metrics have it), `n` right ones, and `confusion`, (C, C) counts: a line a right class, a
    column an answer."""
    right, answers = np.asarray(answered.right, int), np.asarray(answered.answers, int)
    confusion = np.bincount(right * len(names) + answers, minlength=len(names) ** 2).reshape(len(names), -1)
    hits, true, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "labels": list(names),
        "precision": _share(hits, predicted),
        "recall": _share(hits, true),
        "f1": _share(2 * hits, true + predicted),
        "n": true.tolist(),
        "confusion": confusion.tolist(),
    }


def _share(counts: np.ndarray, of_all: np.ndarray) -> list[float]:
    shares: list[float] = (counts / np.maximum(of_all, 1)).tolist()
    return shares
