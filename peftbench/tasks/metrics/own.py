"""Metrics of the user's own: a function by dotted path (`mine.scores.cost`), or an `evaluate` module by the path of its
file or folder (`mine/cost.py`)."""

import ast
import functools
import importlib.util
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.config import targets
from peftbench.errors import ConfigError, first_line
from peftbench.system import fingerprint
from peftbench.tasks.metrics.scope import LABELS, TEXTS, AnswerType, Metric


def is_own(name: str) -> bool:
    """True if a name is a dotted path or that of a file: ours are plain words."""
    return "." in name or "/" in name


def load(name: str, key: str) -> Metric:
    """The function (predictions, references) -> number.

    Args:
        key: the configuration's key, for messages.

    Raises:
        ConfigError: it can't be imported, or isn't called with predictions and references.
    """
    if _is_file(name):
        return _of_module(name, key)
    function: Metric = targets.plain_function(key, name)
    try:
        inspect.signature(function).bind([], [], **({"groups": None} if takes_groups(function) else {}))
    except TypeError:
        raise ConfigError(f"{key}={name}: allowed is a function of predictions and references") from None
    return function


def takes_groups(metric: Metric) -> bool:
    """True if a metric is called with `groups` too."""
    return "groups" in inspect.signature(metric).parameters


def direction(name: str, key: str) -> str:
    """max or min: what `direction = "min"` says, on the function or at the top of the module; max otherwise.

    A module's file is read, not imported: importing `evaluate` starts threads, which the command line does without.
    """
    declared = getattr(load(name, key), "direction", "max") if not _is_file(name) else _written_direction(name, key)
    if declared not in ("max", "min"):
        raise ConfigError(f"{key}={name}: its direction is {declared}; allowed is max | min")
    return str(declared)


def fingerprints(names: Mapping[str, str]) -> dict[str, str]:
    """Hashes of the files that metrics stand in: another text is another metric.

    Args:
        names: of metrics, ours among them, each with the key that names it.
    """
    return {f"metric {name}": fingerprint.of_files([_source(name, key)]) for name, key in names.items() if is_own(name)}


def number(name: str, value: Any) -> float:
    """The number that a metric returned.

    Raises:
        ConfigError: it is none, or isn't finite.
    """
    scalar = value.item() if isinstance(value, np.generic | np.ndarray) and value.size == 1 else value
    if isinstance(scalar, bool) or not isinstance(scalar, int | float) or not math.isfinite(scalar):
        raise ConfigError(f"dataset.metrics={name}: returned {first_line(repr(value))}; allowed is a finite number")
    return float(scalar)


def check(name: str, key: str, answers: AnswerType) -> None:
    """Call a metric on a few made-up answers, all right and all the same, as a model may give them.

    Raises:
        ConfigError: it can't be had, fails, or doesn't return a finite number.
    """
    metric = load(name, key)
    for predictions, references in _made_up(answers):
        grouping = {"groups": np.arange(len(references))} if takes_groups(metric) else {}
        try:
            value = metric(predictions, references, **grouping)
        except Exception as error:  # Whatever a function of the user's raises.
            why = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"{key}={name}: fails on {answers} ({why})") from None
        try:
            number(name, value)
        except ConfigError as error:
            tried = f"of predictions {list(predictions)} and references {list(references)}"
            raise ConfigError(f"{str(error).replace('dataset.metrics=', f'{key}=')}, {tried}") from None


def _made_up(answers: AnswerType) -> list[tuple[Any, Any]]:
    if answers.kind == TEXTS:
        return [(["a b", "c"], [["a b"], ["c", "d"]]), (["c", "c"], [["a b"], ["c", "d"]])]
    right = np.arange(answers.classes or 2) if answers.kind == LABELS else np.array([0.0, 0.5, 1.0])
    return [(right, right), (np.zeros_like(right), right)]


def _is_file(name: str) -> bool:
    return "/" in name or name.endswith(".py")


def _file(name: str, key: str) -> Path:
    """A module's file; `evaluate` calls that of a folder as the folder."""
    path = Path(name).expanduser()
    file = path / f"{path.name}.py" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"{key}={name}: no such file; allowed is an evaluate module's, or package.module.name")
    return file


def _source(name: str, key: str) -> Path:
    """The file that a metric stands in."""
    if _is_file(name):
        return _file(name, key)
    function = load(name, key)
    return Path(inspect.getsourcefile(function) or importlib.util.__file__)


def _written_direction(name: str, key: str) -> str:
    try:
        tree = ast.parse(_file(name, key).read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, OSError) as error:
        raise ConfigError(f"{key}={name}: can't be read ({first_line(error)})") from None
    for line in tree.body:
        into = line.targets if isinstance(line, ast.Assign) else []
        named = [target.id for target in into if isinstance(target, ast.Name)]
        if named == ["direction"] and isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
            return str(line.value.value)
    return "max"


@functools.cache
def _of_module(name: str, key: str) -> Metric:
    """An `evaluate` module as a function: its one value, or the one that is called as the module."""
    file = _file(name, key)
    try:
        import evaluate

        module = evaluate.load(str(file.resolve()))
    except Exception as error:  # Whatever is wrong with a file of the user's.
        raise ConfigError(f"{key}={name}: can't be loaded ({type(error).__name__}: {first_line(error)})") from None

    def metric(predictions: Any, references: Any) -> Any:
        values = module.compute(predictions=predictions, references=references) or {}
        return values.get(file.stem, next(iter(values.values())) if len(values) == 1 else values)

    return metric
