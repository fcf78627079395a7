"""A cell's learning curve: the selection scores of its runs, step by step."""

from collections.abc import Sequence

from peftbench.results.curves import Point
from peftbench.results.report.page.document import CurveBand

#: Points of a picture: it is two hundred pixels wide.
_MOST = 48


def over_seeds(runs: Sequence[Sequence[Point]]) -> CurveBand | None:
    """Mean, least and largest at the steps that all runs were evaluated at; None where there are fewer than two."""
    scores = [
        {point["step"]: score for point in run if (score := point["selection_score"]) is not None} for run in runs
    ]
    if not scores:
        return None
    steps = sorted(set.intersection(*(set(one) for one in scores)))
    if len(steps) < 2:
        return None
    shown = steps if len(steps) <= _MOST else [steps[round(i * (len(steps) - 1) / (_MOST - 1))] for i in range(_MOST)]
    at = [sorted(one[step] for one in scores) for step in shown]
    return CurveBand(
        steps=shown,
        mean=[sum(values) / len(values) for values in at],
        low=[values[0] for values in at],
        high=[values[-1] for values in at],
    )
