"""A cell's learning curve: the selection scores of its runs, step by step, or else their training loss."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

from peftbench.results.curves import Point
from peftbench.results.report.page.document import CurveBand

#: Points of a picture: it is two hundred pixels wide. Losses of single batches are noise: each point is of several.
_MOST, _MOST_LOSSES = 48, 24


def over_seeds(runs: Sequence[Sequence[Point]]) -> CurveBand | None:
    """Mean, least and largest of the selection scores at the steps that all runs were evaluated at; of the training
    losses where these steps are fewer than two, and None where those are too."""
    scores = [{point["step"]: score for point in run if _is_number(score := point["selection_score"])} for run in runs]
    return _band(scores, _common(scores, _MOST), of_loss=False) or _of_losses(runs)


def _of_losses(runs: Sequence[Sequence[Point]]) -> CurveBand | None:
    """Losses, each the mean of those since the last one that is shown."""
    losses = [{point["step"]: point["loss"] for point in run if _is_number(point["loss"])} for run in runs]
    steps = _common(losses, None)
    if len(steps) < 2:
        return None
    ends = _evenly(steps, _MOST_LOSSES)
    ends = ends[1:] if len(ends) < len(steps) else ends  # The first step would stand for itself alone.
    begins = [steps[0] - 1, *ends]
    bins = [[step for step in steps if low < step <= high] for low, high in zip(begins, ends, strict=False)]
    binned = [{among[-1]: sum(run[step] for step in among) / len(among) for among in bins if among} for run in losses]
    return _band(binned, ends, of_loss=True)


def _is_number(value: float | None) -> TypeGuard[float]:
    """True if a figure is there and finite: a curve may be anyone's."""
    return value is not None and math.isfinite(value)


def _common(runs: Sequence[Mapping[int, float]], most: int | None) -> list[int]:
    """The steps that all runs have, at most so many."""
    steps = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    return steps if most is None else _evenly(steps, most)


def _evenly(steps: Sequence[int], most: int) -> list[int]:
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / (most - 1))] for i in range(most)]


def _band(runs: Sequence[Mapping[int, float]], steps: Sequence[int], *, of_loss: bool) -> CurveBand | None:
    if len(steps) < 2:
        return None
    at = [sorted(run[step] for run in runs) for step in steps]
    return CurveBand(
        steps=steps,
        mean=[sum(values) / len(values) for values in at],
        low=[values[0] for values in at],
        high=[values[-1] for values in at],
        of_loss=of_loss,
    )
