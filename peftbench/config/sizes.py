"""The size of a run's method: the values of the keys that its file names in `size`."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from peftbench.config.types import RunConfig

#: Fractions (densities, shares of layers) have so many digits.
_DIGITS = 3


def at(config: RunConfig, key: str) -> float:
    """The value of a key within a run's method. Raises KeyError or AttributeError if it has no such key."""
    value: Any = config.method
    for name in key.split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    size: float = value
    return size


def values(config: RunConfig, size: float) -> dict[str, float]:
    """The values of `method.size`: of its first key this size, of the others in proportion to it, as they are now."""
    first, *others = config.method.size or []
    usual = at(config, first)
    chosen = {first: size}
    for key in others:
        value = at(config, key) * size / usual
        chosen[key] = max(1, round(value)) if isinstance(at(config, key), int) else short(value)
    return chosen


def chosen(config: RunConfig, values: Mapping[str, float]) -> RunConfig:
    """The run with other values of keys within its method."""
    method = copy.deepcopy(config.method)
    for key, value in values.items():
        *sections, name = key.split(".")
        part: Any = method
        for section in sections:
            part = part[section] if isinstance(part, dict) else getattr(part, section)
        part[name] = value
    return replace(config, method=method)


def short(size: float) -> float:
    """A fraction with few digits."""
    return float(f"{size:.{_DIGITS}g}")
