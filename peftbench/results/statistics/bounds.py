"""Between which values a metric lies."""

import math
from collections.abc import Collection

from peftbench.results.statistics import corpus, jackknife

#: Metrics from -1 to 1; the others that are known here are fractions.
_SIGNED = ("matthews", "pearson", "spearman")


def of(metrics: Collection[str]) -> tuple[float, float]:
    """The least and the largest value of a mean of metrics; infinite where one of them isn't known here."""
    known = jackknife.METRICS.keys() | corpus.METRICS.keys() | set(corpus.MEANS)
    if not metrics or not known >= set(metrics):
        return -math.inf, math.inf
    return -1.0 if any(name in _SIGNED for name in metrics) else 0.0, 1.0


def within(interval: tuple[float, float], metrics: Collection[str]) -> tuple[float, float]:
    """The part of an interval where a mean of metrics can lie."""
    least, largest = of(metrics)
    return max(interval[0], least), min(interval[1], largest)
