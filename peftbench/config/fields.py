"""How a configuration's field is declared: its rule, and whether it decides a run's result."""

import dataclasses
import re
from typing import Any

from peftbench.config.rules import Rule, between

NOT_EMPTY = Rule(lambda x: len(x) > 0 and len(set(x)) == len(x), "a list of one or more different names")
COUNT = between(1, 1e12)
PERCENT = Rule(lambda x: _above_zero(r"\d+(\.\d+)?%", x), "a share above 0 such as 25%")
BUDGET = Rule(
    lambda x: PERCENT.holds(x) or _above_zero(r"\d+", x),
    "a share of the model's weights such as 0.2%, or a whole number of weights",
)


def _above_zero(pattern: str, written: str) -> bool:
    return re.fullmatch(pattern, written) is not None and float(written.removesuffix("%")) > 0


def ruled(rule: Rule) -> Any:
    """A required field whose value must satisfy a rule."""
    return dataclasses.field(metadata={"rule": rule})


def descriptive() -> Any:
    """A field that describes and changes nothing: it doesn't identify a run."""
    return dataclasses.field(default=None, metadata={"identity": False})


def sink(default: Any = dataclasses.MISSING, *, rule: Rule | None = None, **options: Any) -> Any:
    """A field that says where things are or go, or how a run survives. It can't change a score, so it doesn't identify
    a run, and records leave it out."""
    return dataclasses.field(default=default, metadata={"identity": False, "sink": True, "rule": rule}, **options)


def is_sink(declared: "dataclasses.Field[Any]") -> bool:
    """True if a field was declared by `sink`."""
    return bool(declared.metadata.get("sink", False))
