"""What a record says of each class (`metrics.<split>.classes`), where it is whole: a record may be anyone's."""

from collections.abc import Mapping
from typing import Any

#: Examples that a confusion may be of: code that spells it out has a line for each.
_MOST = 10_000_000


def recorded(split: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`labels`, `precision`, `recall`, `f1`, `n` and `confusion` of a split; None where they aren't there or don't fit
    each other.

    Args:
        split: of a record's `metrics`.
    """
    classes = (split or {}).get("classes")
    if not isinstance(classes, dict):
        return None
    labels, confusion = classes.get("labels"), classes.get("confusion")
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        return None
    if not isinstance(confusion, list) or len(confusion) != len(labels):
        return None
    shares = all(_are(float, classes.get(name), len(labels)) for name in ("precision", "recall", "f1"))
    counts = all(_are(int, line, len(labels)) for line in (classes.get("n"), *confusion))
    return classes if shares and counts and sum(map(sum, confusion)) <= _MOST else None


def _are(kind: type, values: Any, length: int) -> bool:
    """True if these are `length` fractions (float), or counts (int)."""
    if not isinstance(values, list) or len(values) != length:
        return False
    kinds, most = ((int,), _MOST) if kind is int else ((int, float), 1)
    return all(type(value) in kinds and 0 <= value <= most for value in values)
