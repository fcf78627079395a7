"""Metrics as GLUE defines them, over scikit-learn: plain functions here, the same as `evaluate` modules beside it.

A run calls the functions, since importing `evaluate` starts threads and costs time in every fresh process; the modules
(`accuracy.py`, `f1.py`, ...) wrap them for `evaluate.load(path("f1"))`, without a download. A new metric is one
function in `functions.py` and one module file.
"""

import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.errors import ConfigError
from peftbench.metrics import functions

Metric = Callable[..., float]


def names() -> list[str]:
    """The metrics there are: the modules of this folder."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if file.stem not in ("__init__", "functions", "module"))


def get(name: str) -> Metric:
    """The function (predictions, references) -> score.

    Raises:
        ConfigError: no such metric.
    """
    if name not in names():
        raise ConfigError(f"dataset.metrics: {name} is no metric; allowed are {', '.join(names())}")
    return getattr(functions, name)


def compute(
    wanted: Iterable[str], predictions: Any, references: Any, *, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Scores by name.

    Args:
        predictions: (n,) labels, numbers or texts; `references` the same, or a list of right texts each.
        groups: (n,) numbers of what is scored together, for the metrics that take them.
    """
    found = {}
    for name in wanted:
        metric = get(name)
        more = {"groups": groups} if "groups" in inspect.signature(metric).parameters else {}
        found[name] = metric(predictions, references, **more)
    return found


def path(name: str) -> str:
    """The file of a metric, as `evaluate.load` takes it."""
    get(name)
    return str(Path(__file__).parent / f"{name}.py")
