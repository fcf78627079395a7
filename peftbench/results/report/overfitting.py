"""Over-fitting: how much better a method is on data that it was trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.report.layout import MISSING
from peftbench.results.statistics import intervals

NOTE = """\
The score on training data less the score, in points, with the 95 % interval of
other seeds.
"""


class Gap(NamedTuple):
    """A mean gap, as a fraction, and the ends of its interval of other seeds; None for one seed."""

    mean: float
    ends: tuple[float, float] | None


def of_run(record: RunRecord) -> float | None:
    """The gap of one run, as a fraction."""
    trained = (record.metrics.get("train") or {}).get("score")
    return None if trained is None or record.score is None else float(trained - record.score)


def gap(runs: Sequence[RunRecord]) -> Gap | None:
    """The gap of runs that differ in their seed; None where a run has none."""
    gaps = sorted(one for record in runs if (one := of_run(record)) is not None)
    if not gaps or len(gaps) < len(runs):
        return None
    interval = intervals.by_seeds(np.array(gaps))
    return Gap(sum(gaps) / len(gaps), None if interval is None else (interval.low, interval.high))


def in_points(found: Gap | None) -> str:
    """A gap as tables have it."""
    if found is None:
        return MISSING
    ends = "" if found.ends is None else f" [{100 * found.ends[0]:+.1f}, {100 * found.ends[1]:+.1f}]"
    return f"{100 * found.mean:+.1f}{ends}"
