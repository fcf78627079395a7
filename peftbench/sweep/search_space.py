"""What trials may differ in: a method's own `search`, and the `tune_space` of a command line."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config import types
from peftbench.errors import ConfigError
from peftbench.sweep.cells import plan as plan_cells

#: What trials may differ in, and what of it would have them judged on different examples.
_SEARCHABLE, _JUDGED_ON = ("recipe.", "method.", "model.", "hardware."), ("recipe.selection", "recipe.eval_samples")


def check(config: types.RunConfig, words: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Raises ConfigError for a key or a value of `tune_space` that no trial can have, before the first begins."""
    own = {f"method.{key}" for key in config.method.search or {}}
    for key, allowed in (config.tune_space or {}).items():
        if not key.startswith(_SEARCHABLE) or key in _JUDGED_ON or key in own:
            why = "the method's own search has it" if key in own else f"allowed are keys of {', '.join(_SEARCHABLE)}"
            raise ConfigError(f"tune_space.{key}: {why}, but for {', '.join(_JUDGED_ON)}")
        values = allowed if isinstance(allowed, list) else []
        if len(set(map(str, values))) < 2 or (is_range(key) and not _are_ends(values)):
            what = "its lowest and its highest value" if is_range(key) else "a list of two or more different values"
            raise ConfigError(f"tune_space.{key}={allowed}: allowed is {what}")
        for value in values:
            plan_cells([*words, word(key, value)], multirun=False, config_dirs=config_dirs)


def _are_ends(values: list[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) == 2 and 0 < numbers[0] < numbers[1]


def word(key: str, value: Any) -> str:
    """A key and its value as a word of the command line."""
    return f"{key}={json.dumps(value)}"


def of(config: types.RunConfig) -> dict[str, Any]:
    """The values that are allowed by key, within the method or (of `tune_space`) of the run."""
    set_by_match = (config.method.size or []) if config.match is not None else []
    own = {key: allowed for key, allowed in (config.method.search or {}).items() if key not in set_by_match}
    return {**own, **(config.tune_space or {})}


def is_range(key: str) -> bool:
    """A rate is searched between two ends, evenly on a logarithmic scale; anything else among given values."""
    return key.rpartition(".")[2] in ("lr", "head_lr")


#: The share of a range, on its logarithmic scale, that counts as its edge. A trial hardly falls on the end itself, and
#: of a usual range, two decades, a tenth is a factor of 1.6: what lies beyond may be better by as much.
_EDGE = 0.1


def edges(best: dict[str, Any], search: dict[str, Any]) -> dict[str, str]:
    """The keys of rates whose best value lies at an edge of its range, and which: lower or upper."""
    found = {}
    for key, allowed in search.items():
        if not is_range(key):
            continue
        low, high = (math.log(float(end)) for end in allowed)
        place = (math.log(best[key]) - low) / (high - low) if high > low else 0.5
        if not _EDGE < place < 1 - _EDGE:
            found[key] = "lower" if place <= _EDGE else "upper"
    return found


def suggest(trial: Any, key: str, allowed: list[Any]) -> Any:
    """The value that a trial of Optuna gets; a rate has three digits."""
    if is_range(key):
        low, high = (float(end) for end in allowed)
        return float(f"{trial.suggest_float(key, low, high, log=True):.3g}")
    return trial.suggest_categorical(key, allowed)


def usual(config: types.RunConfig) -> dict[str, Any] | None:
    """The method's own values of what is searched, or None where one lies outside."""
    values = {}
    for key, allowed in of(config).items():
        value: Any = config.method if key in (config.method.search or {}) else config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        inside = float(allowed[0]) <= value <= float(allowed[1]) if is_range(key) else value in allowed
        if not inside:
            return None
        values[key] = value
    return values
