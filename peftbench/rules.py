"""What a configuration value must satisfy beyond its type."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy (null is checked by its type), in code and in words."""

    holds: Callable[[Any], bool]
    allowed: str


def between(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    words = f"{'above' if above else 'at least'} {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    return Rule(lambda x: math.isfinite(x) and (x > low if above else x >= low) and x <= high, f"a number {words}")


def one_of(*names: str) -> Rule:
    return Rule(lambda x: x in names, " | ".join(names))
