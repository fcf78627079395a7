"""What a method costs: the figures that the page's table, its budgets and its pictures know."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """A figure.

    Attributes:
        id: its name in the page's state.
        name: with its unit.
        figure: its name in `Row.figures`.
        factor: from the record's unit to the shown one.
        digits: after the point.
        shown: in the table unless other columns are chosen.
        picture: the score is drawn against it.
    """

    id: str
    name: str
    figure: str
    factor: float = 1
    digits: int = 0
    shown: bool = False
    picture: bool = False


COSTS = (
    Cost("trained", "trained parameters", "params.trainable", shown=True, picture=True),
    Cost("share", "trained, %", "share", 100, 3, shown=True),
    Cost("memory", "peak memory, MB", "efficiency.peak_memory_bytes", 1e-6, shown=True, picture=True),
    Cost("time", "training time, s", "efficiency.train_time_s", 1, 1, shown=True, picture=True),
    Cost("stored", "stored a task, kB", "efficiency.adapter_bytes", 1e-3, picture=True),
    Cost("latency", "latency, ms", "efficiency.inference_latency_ms", 1, 2, shown=True, picture=True),
    Cost("merged", "latency merged, ms", "efficiency.inference_latency_ms_merged", 1, 2, picture=True),
    Cost("base", "latency of the base, ms", "efficiency.inference_latency_ms_base", 1, 2),
    Cost("rate", "training, samples/s", "efficiency.train_samples_per_s", 1, 1),
    Cost("weights", "weights, MB", "efficiency.weights_bytes", 1e-6, 1),
    Cost("adapter", "parameters outside the head", "params.adapter"),
    Cost("head", "parameters of the head", "params.head"),
)

#: What the table can be limited to.
BUDGETS = tuple(cost for cost in COSTS if cost.id in ("memory", "trained", "latency"))


def value(cost: Cost, figures: Mapping[str, float | None]) -> float | None:
    """The figure in its shown unit."""
    if cost.figure == "share":
        trained, total = figures.get("params.trainable"), figures.get("params.total")
        return cost.factor * trained / total if total and trained is not None else None
    number = figures.get(cost.figure)
    return None if number is None else number * cost.factor


def text(cost: Cost, number: float | None) -> str:
    """The figure as it is shown."""
    return "–" if number is None else f"{number:,.{cost.digits}f}"
