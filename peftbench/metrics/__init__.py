"""Metrics as GLUE defines them, over scikit-learn: plain functions here, the same as `evaluate` modules beside it.

A run calls the functions, since importing `evaluate` starts threads and costs time in every fresh process; the modules
(`accuracy.py`, `f1.py`, ...) wrap them for `evaluate.load(path("f1"))`, without a download. A new metric is one
function in `functions.py` and one module file.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from peftbench.errors import ConfigError
from peftbench.metrics import functions

Metric = Callable[[np.ndarray, np.ndarray], float]


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


def path(name: str) -> str:
    """The file of a metric, as `evaluate.load` takes it."""
    get(name)
    return str(Path(__file__).parent / f"{name}.py")
