"""What the values of a column of the user's own files mean: labels, numbers, texts."""

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from peftbench.data.examples import NO_LABEL
from peftbench.data.jsonlines import NumberText, Structure
from peftbench.data.kinds import Role, ValueKind
from peftbench.data.rows import allowed_labels
from peftbench.errors import ConfigError

#: More different values than this are no classes.
_MOST_LABELS = 100
#: Rows that a message lists.
_MOST_ROWS = 5

_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0*)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = ("false", "true")


def missing(values: Sequence[Any], role: Role, names: Iterable[str] | None) -> list[int]:
    """The rows without a label or a right answer: null, empty or blank, and `nan`, which libraries write for it.

    Args:
        names: labels that are given, which may be called so.
    """
    if not role.kind.is_target:
        return []
    absent = {"", "nan"} if role.kind is not ValueKind.ANSWERS else {""}
    return [
        row
        for row, value in enumerate(values)
        if value is None
        or value == []
        or (isinstance(value, str) and value not in (names or ()) and value.strip().casefold() in absent)
    ]


def listed(rows: Sequence[int]) -> str:
    """Rows in words, of many the first."""
    first = ", ".join(map(str, rows[:_MOST_ROWS]))
    rest = f" and {len(rows) - _MOST_ROWS} more" if len(rows) > _MOST_ROWS else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{rest}"


def written(value: Any) -> Any:
    """A label as a text; of a format's own numbers 1.0 is 1."""
    match = _WHOLE.fullmatch(value) if isinstance(value, NumberText) else None
    return match[1] if match else str(value) if type(value) is NumberText else value


def names(values: Iterable[str], where: str) -> list[str]:
    """The different labels, sorted: by number where all are numbers.

    Raises:
        ConfigError: they are too few or too many, or two are one to the eye.
    """
    different = set(values)
    if not 1 < len(different) <= _MOST_LABELS:
        raise ConfigError(
            f"{where} has {len(different)} different values; allowed are 2 to {_MOST_LABELS} classes, more if "
            "dataset.labels names them, or dataset.task=regression"
        )
    alike: dict[str, str] = {}
    for name in sorted(different):
        match = _WHOLE.fullmatch(name.strip())
        other = alike.setdefault(match[1] if match else name.strip(), name)
        if other != name:
            raise ConfigError(
                f"{where} has the labels {other!r} and {name!r}, which differ by blanks or '.0' alone; mend the file, "
                "or name both in dataset.labels"
            )
    numbers = all(_NUMBER.fullmatch(name) for name in different)
    return sorted(different, key=lambda name: (float(name), name) if numbers else (0.0, name))


class Labels:
    """Reads labels as indices into `names`: by name, else true and false, else by index; the training rows decide
    which, so that no other file is read in another way."""

    def __init__(self, names: Sequence[str], training: Sequence[str]) -> None:
        self._names = list(names)
        named = {name: index for index, name in enumerate(names)}
        mappings = [named, _booleans(names), {} if any(map(_NUMBER.fullmatch, names)) else _indices(len(names))]
        different = set(training)
        self._indices = max(mappings, key=lambda mapping: sum(value in mapping for value in different))

    def read(self, values: Sequence[str], where: str) -> list[int]:
        """(rows,) indices; of a hidden test `NO_LABEL`.

        Raises:
            ConfigError: a value is no label.
        """
        if values and all(value == str(NO_LABEL) for value in values) and str(NO_LABEL) not in self._names:
            return [NO_LABEL] * len(values)
        for row, value in enumerate(values):
            if value not in self._indices:
                shown = value if _NUMBER.fullmatch(value) else repr(value)
                raise ConfigError(
                    f"dataset.labels: {where} row {row} has the label {shown:.80}; allowed are "
                    f"{allowed_labels(self._names)}"
                )
        return [self._indices[value] for value in values]


def _booleans(names: Sequence[str]) -> dict[str, int]:
    """false and true as they may be written: by name where the labels are called so, else in this order."""
    cases = [name.casefold() for name in names]
    if len(names) != 2 or len(set(cases)) != 2:
        return {}
    order = cases if set(cases) == set(_BOOLEANS) else _BOOLEANS if not set(cases) & set(_BOOLEANS) else ()
    return {form(name): index for index, name in enumerate(order) for form in (str, str.title, str.upper)}


class _indices(dict[str, int]):  # noqa: N801 (reads as the function beside it)
    """0, 1, ... as they may be written."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size

    def __contains__(self, text: object) -> bool:
        match = _WHOLE.fullmatch(text) if isinstance(text, str) else None
        return match is not None and len(match[1]) < 10 and 0 <= int(match[1]) < self._size

    def __getitem__(self, text: str) -> int:
        return int(text.partition(".")[0])


def array(values: Sequence[Any], role: Role, where: str) -> pa.Array:
    """A column as its role reads it; labels are made indices by `Labels`.

    Raises:
        ConfigError: a value isn't of that kind.
    """
    key = f"dataset.{role.key}={role.column}"
    if role.kind in (ValueKind.NUMBER, ValueKind.WHOLE):
        return _numbers(values, role, f"{key}: {where}")
    for row, value in enumerate(values):
        if any(isinstance(leaf, Structure) for leaf in _leaves(value)):
            raise ConfigError(f"{key}: {where} row {row} has {_leaves(value)[0]}, not text; /a/b names a field b of a")
        if isinstance(value, list) and not role.kind.is_listed:
            raise ConfigError(f"{key}: {where} row {row} has a list, not text")
    if role.kind is ValueKind.LIST:
        lists = [_leaves(value) if isinstance(value, list) else None for value in values]
        return pa.array(lists, pa.list_(pa.string())) if any(v is not None for v in lists) else _texts(values)
    if any(isinstance(value, list) for value in values):
        return pa.array([None if v is None else _leaves(v) for v in values], pa.list_(pa.string()))
    return _texts(values)


def _texts(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.large_string() if sum(map(len, filter(None, values))) > 1 << 28 else pa.string())


def _numbers(values: Sequence[Any], role: Role, where: str) -> pa.Array:
    is_whole = role.kind is ValueKind.WHOLE
    form, allowed = (_WHOLE, "whole numbers") if is_whole else (_NUMBER, "numbers")
    numbers: list[Any] = []
    for row, value in enumerate(values):
        match = form.fullmatch(value.strip()) if isinstance(value, str) else None
        number = None if match is None else float(match[0])
        if number is None or not math.isfinite(number) or (is_whole and abs(number) > 2**53):
            raise ConfigError(f"{where} row {row} has {value!r:.80}; allowed are {allowed}")
        numbers.append(int(number) if is_whole else number)
    return pa.array(numbers, pa.int64() if is_whole else pa.float64())


def _leaves(value: Any) -> list[Any]:
    """A value, or all that stands in its lists."""
    return [leaf for part in value for leaf in _leaves(part)] if isinstance(value, list) else [value]
