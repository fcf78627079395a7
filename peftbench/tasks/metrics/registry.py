"""The metrics by name: over labels (`labels.py`, as GLUE defines them, over scikit-learn) and over texts (`texts.py`,
over rouge_score and sacrebleu), plain functions, and the same as `evaluate` modules beside them.

A run calls the functions, since importing `evaluate` starts threads and costs time in every fresh process; the modules
(`accuracy.py`, `f1.py`, ...) wrap them for `evaluate.load(path("f1"))`, without a download. A new metric is one
function, which says by `@scores(...)` what it can score (`scope.py`), and one module file; the user's own stand
elsewhere (`own.py`).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.config.dataset_types import AS_METRIC, DatasetConfig
from peftbench.data.examples import Reader
from peftbench.errors import ConfigError
from peftbench.tasks.metrics import labels, own, texts  # noqa: F401 (their functions say by `@scores` what they are)
from peftbench.tasks.metrics.scope import LABELS, METRICS, AnswerType, Metric, scope


def names() -> list[str]:
    """The metrics there are."""
    return sorted(METRICS)


def get(name: str, key: str = "dataset.metrics") -> Metric:
    """The function (predictions, references) -> score: of label arrays, or of texts and lists of texts.

    Args:
        name: one of `names`, or where the user's own is (`own`).
        key: the configuration's key that names it, for messages.

    Raises:
        ConfigError: no such metric.
    """
    if own.is_own(name):
        return own.load(name, key)
    if name not in METRICS:
        raise ConfigError(f"{key}: {name} is no metric; allowed are {', '.join(names())}")
    return METRICS[name]


def check(data: DatasetConfig, reader: Reader) -> None:
    """Raises ConfigError if a data set's metric can't score its answers. What is declared decides, not what occurs; a
    metric of the user's own is tried.

    Args:
        reader: of the data set's rows.
    """
    classes = len(data.labels or []) if reader.answers == LABELS and reader.takes_labels else None
    answers = AnswerType(reader.answers, classes, groups=bool(reader.grouped))
    fitting = [name for name in names() if answers.suit(scope(name))]
    for name, key in keys(data).items():
        if own.is_own(name):
            own.check(name, key, answers)
        elif name not in fitting:
            raise ConfigError(
                f"{key}: {name} scores {scope(name)}; dataset={data.name} has {answers}; "
                f"allowed are {', '.join(fitting)}"
            )


def keys(data: DatasetConfig) -> dict[str, str]:
    """Every metric of a data set with the key that names it.

    Raises:
        ConfigError: one is both scored and recorded beside the score.
    """
    also = dict.fromkeys(data.also or [], "dataset.also")
    if twice := sorted(also.keys() & data.metrics.keys()):
        raise ConfigError(f"dataset.also={', '.join(twice)}: allowed are metrics that dataset.metrics doesn't have")
    return {**dict.fromkeys(data.metrics, "dataset.metrics"), **also}


def directed(wanted: Mapping[str, str]) -> dict[str, str]:
    """Metrics with max or min each, where only the metric itself says it: a function that is to be small has
    `direction = "min"`.

    Raises:
        ConfigError: no such metric, or they don't all point one way, so that they have no mean.
    """
    directions = {name: _direction(name) if direction == AS_METRIC else direction for name, direction in wanted.items()}
    if len(set(directions.values())) > 1:
        raise ConfigError(f"dataset.metrics={directions}: allowed are metrics that all are max or all are min")
    return directions


def _direction(name: str) -> str:
    return own.direction(name, "dataset.metrics") if own.is_own(name) else getattr(get(name), "direction", "max")


def compute(
    wanted: Iterable[str], predictions: Any, references: Any, *, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Scores by name.

    Args:
        predictions: (n,) labels, numbers or texts; `references` the same, or a list of right texts each.
        groups: (n,) numbers of what is scored together, for the metrics that take them.
    """
    values = {}
    for name in wanted:
        metric = get(name)
        grouping = {"groups": groups} if own.takes_groups(metric) else {}
        value = metric(predictions, references, **grouping)
        values[name] = own.number(name, value) if own.is_own(name) else value
    return values


def path(name: str) -> str:
    """The file of a metric, as `evaluate.load` takes it."""
    get(name)
    return str(Path(__file__).parent / f"{name}.py")
