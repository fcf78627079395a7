"""Over-fitting: how much better a method is on data that it was trained on."""

from collections.abc import Sequence

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.report.layout import MISSING
from peftbench.results.statistics import intervals
from peftbench.results.statistics.intervals import Interval

NOTE = """\
The score on training data less the score, in points, with the 95 % interval of
other seeds.
"""


def gap(runs: Sequence[RunRecord]) -> tuple[float, Interval | None] | None:
    """The mean gap of runs that differ in their seed, as a fraction, and its interval of other seeds; None where a run
    has none."""
    pairs = [((record.metrics.get("train") or {}).get("score"), record.score) for record in runs]
    gaps = sorted(trained - score for trained, score in pairs if trained is not None and score is not None)
    if not gaps or len(gaps) < len(runs):
        return None
    return sum(gaps) / len(gaps), intervals.by_seeds(np.array(gaps))


def in_points(found: tuple[float, Interval | None] | None) -> str:
    """A gap as tables have it."""
    if found is None:
        return MISSING
    mean, interval = found
    ends = "" if interval is None else f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"{100 * mean:+.1f}{ends}"
