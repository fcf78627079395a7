"""How many standard errors must fit between a difference and d for it to count as shown (TOST), by simulation.

The deviation s that is used is the largest of up to three (printed, ours, the task's floor). Student's quantile is
that of one estimate which no floor holds up; for s it is too large, and a true row would hardly be `reproduced`. Here
the quantile is computed: the smallest factor c with which a row that is off by exactly d has |difference| + c s k <= d
in 5 % of cases at the most, whatever the deviation of runs is.
"""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftbench.results.reproduction import spread

#: Of rows off by d 5 % may count as equal; half a point less leaves room for the simulation's own error.
_LEVEL = 0.045
_CASES = 50_000
#: Deviations of one run, in d, at which it must hold: beyond the largest nothing is within d any more.
_DEVIATIONS = np.geomspace(0.05, 2.0, 24)
#: A floor counts by tenths of d, downwards: a lower one makes the factor larger.
_STEP = 0.1


@dataclass(frozen=True)
class Design:
    """The design that a judgement rests on.

    Attributes:
        statistic: mean, median or best.
        theirs, ours: seeds.
        printed: how the paper prints the spread of its runs (std, iqr); None: it doesn't.
        floor: the task's floor in d; 0: none.
    """

    statistic: str
    theirs: int
    ours: int
    printed: str | None
    floor: float = 0.0


def factor(design: Design) -> float:
    """The factor c of a design."""
    tenths = int(min(design.floor, 2.0) / _STEP + 1e-9)
    return _factor(Design(design.statistic, design.theirs, design.ours, design.printed, tenths * _STEP))


@functools.cache
def _factor(design: Design) -> float:
    random = np.random.default_rng(0)
    theirs, ours = (random.normal(size=(_CASES, n)) for n in (design.theirs, design.ours))
    difference = spread.along(design.statistic, ours) - spread.along(design.statistic, theirs)
    estimate = _largest_estimate(design, theirs, ours)
    error = np.hypot(spread.factor(design.statistic, design.theirs), spread.factor(design.statistic, design.ours))
    return max(
        float(np.quantile(_largest(deviation, sign * difference, estimate, design.floor) / error, 1 - _LEVEL))
        for deviation in _DEVIATIONS
        for sign in (1, -1)
    )


def _largest(deviation: float, difference: Any, estimate: Any, floor: float) -> Any:
    """The largest c k of each case, off by d = 1, with which it would count as equal: (1 - |1 + difference|) / s."""
    return (1 - np.abs(1 + deviation * difference)) / np.maximum(deviation * estimate, floor)


def _largest_estimate(design: Design, theirs: Any, ours: Any) -> Any:
    """The larger of the two estimates of the deviation, of those that there are."""
    estimates = [np.full(len(theirs), np.finfo(float).tiny)]
    if design.printed is not None and design.theirs > 1:
        estimates.append(spread.deviation(design.printed, theirs))
    if design.ours > 1:
        estimates.append(spread.deviation("std", ours))
    return np.max(estimates, axis=0)
