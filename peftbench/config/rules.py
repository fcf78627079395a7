"""What a configuration value must satisfy beyond its type."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from peftbench.errors import ConfigError


@dataclass(frozen=True)
class Rule:
    """The condition that a value must satisfy (null is checked by its type), in code and in words."""

    holds: Callable[[Any], bool]
    allowed: str


def between(low: float, high: float = math.inf, *, above: bool = False) -> Rule:
    """Numbers within bounds, both included; with `above`, more than the lower one."""
    words = f"{'above' if above else 'at least'} {_written(low)}"
    words += "" if high == math.inf else f" and at most {_written(high)}"

    def holds(x: float) -> bool:
        finite = isinstance(x, int) or math.isfinite(x)  # An integer may be too large to be made a float.
        return finite and (x > low if above else x >= low) and x <= high

    return Rule(holds, f"a number {words}")


def _written(number: float) -> str:
    """A bound as a person writes it: a whole number with all of its digits."""
    return f"{int(number)}" if float(number).is_integer() else f"{number:g}"


def whole(low: int) -> Rule:
    return Rule(lambda x: isinstance(x, int) and not isinstance(x, bool) and x >= low, f"a whole number from {low}")


def one_of(*names: str) -> Rule:
    return Rule(lambda x: x in names, " | ".join(names))


def check_finite(value: Any, key: str) -> None:
    """Raises ConfigError for a number anywhere that is infinite or NaN: a hash of it, and JSON, would not exist."""
    if isinstance(value, dict):
        for name, part in value.items():
            check_finite(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value}: allowed is a finite number")


def check(config: Any, prefix: str) -> None:
    """Raises ConfigError for the first field of a dataclass, or of one within it, whose rule doesn't hold."""
    for f in dataclasses.fields(config):
        value, key = getattr(config, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check(value, f"{key}.")
        for name, part in value.items() if isinstance(value, dict) else ():
            if dataclasses.is_dataclass(part):
                check(part, f"{key}.{name}.")
        rule = f.metadata.get("rule")
        if rule is not None and value is not None and not rule.holds(value):
            raise ConfigError(f"{key}={value}: allowed is {rule.allowed}")


def check_arguments(arguments: dict[str, Any], rules: dict[str, Rule]) -> None:
    """Raises ConfigError for a `method.args` that is missing, unknown, or whose rule doesn't hold."""
    for name in {**rules, **arguments}:
        if name not in rules:
            allowed = f"allowed are {', '.join(rules)}" if rules else "this method takes none"
            raise ConfigError(f"method.args.{name}: no such argument; {allowed}")
        value = arguments.get(name)
        if value is None or not _holds(rules[name], value):
            raise ConfigError(f"method.args.{name}={value}: allowed is {rules[name].allowed}")


def _holds(rule: Rule, value: Any) -> bool:
    try:
        return rule.holds(value)
    except TypeError:
        return False
