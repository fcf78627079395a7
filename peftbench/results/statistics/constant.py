"""What the same answer for every example would score, and where a score's 95 % interval begins: by how often each class
was answered as each.

Metrics over labels are jackknife pseudo-values (`jackknife`); correlations go by Fisher's z, of ranks with the variance
of Bonett & Wright, Psychometrika 65 (2000) 23. A constant answer correlates with nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from peftbench.results.statistics import intervals, jackknife

#: The standard normal quantile of a two-sided 95 % interval.
_Z = NormalDist().inv_cdf(0.975)
#: Metrics that are scored here: over labels, one by one, but for accuracy, whose interval is Wilson's.
_LABELS = sorted(jackknife.METRICS.keys() - {"accuracy", "em", "f1a", "gender_parity", "pearson", "spearman"})


@dataclass(frozen=True)
class Constant:
    """The best score of one answer for all: `answer`, the class; None: any. `low`: where the interval of the score that
    it is beside begins."""

    score: float
    answer: int | None
    low: float


def of_labels(metric: str, confusion: Sequence[Sequence[int]]) -> Constant | None:
    """The best constant answer beside a metric over labels; None where it isn't one, or of fewer than two examples.

    Args:
        confusion: (C, C) counts, a line a right class, a column an answer.
    """
    counts = np.asarray(confusion, int)
    if metric not in _LABELS or counts.sum() < 2:
        return None
    right, answers = (np.repeat(part, counts.ravel()) for part in np.indices(counts.shape).reshape(2, -1))
    rows = np.arange(len(right))
    scored = jackknife.METRICS[metric](answers, right, rows)
    # No other class can be better: a constant's F1, precision and recall grow with its share; binary F1 is of label 1.
    candidates = {int(counts.sum(axis=1).argmax()), len(counts) - 1 if len(counts) == 2 else 0}
    wholes = {c: jackknife.METRICS[metric](np.full_like(right, c), right, rows).whole for c in sorted(candidates)}
    best = max(wholes, key=lambda c: wholes[c])
    return Constant(wholes[best], best, intervals.cell(scored.values[None]).low)


def of_correlation(metric: str, value: float, n: int) -> Constant | None:
    """The constant answer beside Pearson's or Spearman's correlation of n pairs; None: it is neither, or of too few."""
    if metric not in ("pearson", "spearman") or n < 4:
        return None
    extra = value**2 / 2 if metric == "spearman" else 0.0
    z = math.atanh(max(min(value, 1 - 1e-12), 1e-12 - 1)) - _Z * math.sqrt((1 + extra) / (n - 3))
    return Constant(0.0, None, math.tanh(z))
