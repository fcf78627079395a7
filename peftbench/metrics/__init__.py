"""Metrics over labels (`functions.py`, as GLUE defines them, over scikit-learn) and over texts (`text.py`, over
rouge_score and sacrebleu): plain functions, and the same as `evaluate` modules beside them.

A run calls the functions, since importing `evaluate` starts threads and costs time in every fresh process; the modules
(`accuracy.py`, `f1.py`, ...) wrap them for `evaluate.load(path("f1"))`, without a download. A new metric is one
function and one module file.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.errors import ConfigError
from peftbench.metrics import functions, text
from peftbench.schema import AS_METRIC

Metric = Callable[..., float]

_OTHER_FILES = ("__init__", "functions", "text", "module")


def names() -> list[str]:
    """The metrics there are: the modules of this folder."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(file.stem for file in files if file.stem not in _OTHER_FILES)


def get(name: str) -> Metric:
    """The function (predictions, references) -> score: of label arrays, or of texts and lists of texts.

    Raises:
        ConfigError: no such metric.
    """
    if name not in names():
        raise ConfigError(f"dataset.metrics: {name} is no metric; allowed are {', '.join(names())}")
    return getattr(functions if hasattr(functions, name) else text, name)


def of_texts(name: str) -> bool:
    """Whether a metric compares texts."""
    get(name)
    return hasattr(text, name)


def directed(wanted: Mapping[str, str]) -> dict[str, str]:
    """Metrics with max or min each, where only the metric itself says it: a function that is to be small has
    `direction = "min"`.

    Raises:
        ConfigError: no such metric, or they don't all point one way, so that they have no mean.
    """
    told = {
        name: getattr(get(name), "direction", "max") if direction == AS_METRIC else direction
        for name, direction in wanted.items()
    }
    if len(set(told.values())) > 1:
        raise ConfigError(f"dataset.metrics={told}: allowed are metrics that all are max or all are min")
    return told


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
