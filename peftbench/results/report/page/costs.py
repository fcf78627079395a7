"""What a method costs: the figures that the page's table, its budgets and its pictures know."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A figure.

    Attributes:
        id: its name in the page's state.
        name: with its unit.
        figure: its name in `PageRow.figures`; `over`: of the one that it is divided by.
        factor: from the record's unit to the shown one.
        digits: after the point.
        shown: in the table unless other columns are chosen.
        picture: the score is drawn against it.
    """

    id: str
    name: str
    figure: str
    over: str | None = None
    factor: float = 1
    digits: int = 0
    shown: bool = False
    picture: bool = False


COSTS = (
    Cost("trained", "trained parameters", "params.trainable", shown=True, picture=True),
    Cost("share", "trained, %", "params.trainable", "params.total", 100, 3, shown=True),
    Cost("memory", "peak memory, MB", "efficiency.peak_memory_bytes", None, 1e-6, shown=True, picture=True),
    Cost("time", "training time, s", "efficiency.train_time_s", None, 1, 1, shown=True, picture=True),
    Cost("stored", "stored a task, kB", "efficiency.adapter_bytes", None, 1e-3, picture=True),
    Cost("latency", "latency, ms", "efficiency.inference_latency_ms", None, 1, 2, shown=True, picture=True),
    Cost("merged", "latency merged, ms", "efficiency.inference_latency_ms_merged", None, 1, 2, picture=True),
    Cost("base", "latency of the base, ms", "efficiency.inference_latency_ms_base", None, 1, 2),
    Cost(
        *("relative", "latency, times base", "efficiency.inference_latency_ms"),
        *("efficiency.inference_latency_ms_base", 1, 2),
        shown=True,
    ),
    Cost("step", "step, forward passes", "efficiency.train_step_base_forwards", None, 1, 2, shown=True),
    Cost("rate", "training, samples/s", "efficiency.train_samples_per_s", None, 1, 1),
    Cost("weights", "weights, MB", "efficiency.weights_bytes", None, 1e-6, 1),
    Cost("adapter", "parameters outside the head", "params.adapter"),
    Cost("head", "parameters of the head", "params.head"),
    Cost("price", "price", "efficiency.hosted_price", None, 1, 4, picture=True),
    Cost("questions", "questions", "efficiency.hosted_questions"),
    Cost("asked", "tokens asked", "efficiency.hosted_input_tokens"),
    Cost("answered", "tokens answered", "efficiency.hosted_output_tokens"),
    Cost("trained_tokens", "tokens trained on", "efficiency.hosted_trained_tokens"),
    Cost("job", "training job, h", "efficiency.hosted_job_h", None, 1, 2),
)

#: What the table can be limited to.
BUDGETS = tuple(cost for cost in COSTS if cost.id in ("memory", "trained", "latency"))


def value(cost: Cost, figures: Mapping[str, float | None]) -> float | None:
    """The figure in its shown unit."""
    number = figures.get(cost.figure)
    if number is None or cost.over is None:
        return None if number is None else number * cost.factor
    whole = figures.get(cost.over)
    return cost.factor * number / whole if whole else None


def spoilt(cost: Cost, busy: Mapping[str, str]) -> str | None:
    """The reason why a figure isn't to be compared; None: it is. What took turns on a busy machine was slowed alike."""
    return busy.get(cost.figure) if cost.over is None else None


def text(cost: Cost, number: float | None) -> str:
    """The figure as it is shown."""
    return "–" if number is None else f"{number:,.{cost.digits}f}"
