"""The types of a record's fields. Every record that is read is checked against them, whoever wrote it, so that the rest
of the code may rely on them. The types of the configuration's part are read off `RunConfig`.

Values stay as they are: a value of another type is refused and never converted.
"""

import dataclasses
import functools
import math
import operator
import types
import typing
from typing import Annotated, Any

import msgspec
from msgspec import Meta

#: Finite, and small enough that sums, squares and formatted values stay finite.
Number = Annotated[float, Meta(ge=-1e18, le=1e18)]
#: Whole numbers of at most eight bytes; a count isn't negative.
Whole = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: Seconds since 1970 that a calendar has a date for: up to the year 9999.
UnixTime = Annotated[float, Meta(ge=0, le=253_402_300_799)]


class Split(msgspec.Struct):
    """`metrics` of a split."""

    values: dict[str, Number | None] | None = None
    score: Number | None = None


class Near(msgspec.Struct):
    """A token of the vocabulary near to a virtual one."""

    token: str
    similarity: Number


class Learnt(msgspec.Struct):
    """`learnt` of a record."""

    soft_prompt: list[list[Near]] | None = None


class Environment(msgspec.Struct):
    """`environment` of a record."""

    data_fingerprint: str | None = None
    model_fingerprint: str | None = None
    inputs: dict[str, str] | None = None
    questions: dict[str, str] | None = None
    packages: dict[str, str] | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    cpu: str | None = None
    cpu_count: Count | None = None
    threads: Count | None = None
    gpu: list[str] | None = None
    started_unix_s: UnixTime | None = None
    jobs_beside: Count | None = None
    start: str | None = None


class BenchmarkForgetting(msgspec.Struct):
    """`forgetting` of a record, by benchmark."""

    n: Count
    cut: Count
    parts: dict[str, Any]
    data_fingerprint: str
    before: Number
    after: Number
    difference: Number
    difference_se: Number | None = None


class Calibration(msgspec.Struct):
    """`evaluation.calibration` of a record."""

    n: Count
    ece: Number
    brier: Number
    selective_accuracy_50: Number
    temperature: Number | None = None
    ece_scaled: Number | None = None
    brier_scaled: Number | None = None


class Perturbed(msgspec.Struct):
    """`evaluation.robustness` of a record, by perturbation."""

    n: Count
    changed: Count
    score: Number
    drop: Number
    drop_low: Number | None = None
    drop_high: Number | None = None


class Slice(msgspec.Struct):
    """One slice of the evaluation split: the rows that have a value in common."""

    n: Count
    score: Number


class Sliced(msgspec.Struct):
    """`evaluation.slices` of a record, by column."""

    groups: dict[str, Slice]
    worst: str | None = None


class Evaluation(msgspec.Struct):
    """`evaluation` of a record."""

    calibration: Calibration | None = None
    robustness: dict[str, Perturbed] | None = None
    slices: dict[str, Sliced] | None = None


class Halved(msgspec.Struct):
    """`halving` of a trial."""

    examples_seen: Count
    scores: list[tuple[Count, Number]]


class Warned(msgspec.Struct):
    """One of a record's `warnings`."""

    kind: str
    text: str


#: By field of `RunRecord` the type of what is in it, where the dataclass says less.
_WITHIN: dict[str, Any] = {
    "metrics": dict[str, Split | None],
    "score": Number | None,
    "selected_step": Whole | None,
    "selection": dict[str, Number | None] | None,
    "halving": Halved | None,
    "params": dict[str, Whole | None] | None,
    "efficiency": dict[str, Number | dict[str, Count] | None] | None,
    "samples": dict[str, Count | None] | None,
    "learnt": Learnt,
    "environment": Environment,
    "forgetting": dict[str, BenchmarkForgetting] | None,
    "evaluation": Evaluation | None,
    "warnings": list[Warned],
    "protocol": Whole,
    "schema_version": Whole,
}


#: The figures of `efficiency` that have a number a part; the others are a number each.
_BY_PART = ("memory_parts_bytes",)


def check(record: Any, kind: type) -> None:
    """Raises msgspec.ValidationError unless a record's fields hold what they should.

    Args:
        record: by field of `kind`, as JSON has it.
        kind: `RunRecord`, which this module is used by.
    """
    msgspec.convert(record, _record(kind))
    for name, value in (record.get("efficiency") or {}).items():
        if isinstance(value, dict) and name not in _BY_PART:
            raise msgspec.ValidationError(f"Expected `float | null`, got `object` - at `$.efficiency.{name}`")


def finite(value: Any) -> Any:
    """The value, or None for a float that isn't finite: JSON has none of these, and a loss may be one."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: Levels of objects and lists in one another that a record may have: ours have ten, and Python stops at a thousand.
_DEEPEST = 100


def check_size(value: Any, depth: int = 0) -> None:
    """Raise msgspec.ValidationError for a value nested too deep, or a whole number too long, for code that handles any
    value: recursion ends at a thousand levels, and msgspec writes 8 bytes at most."""
    if depth > _DEEPEST:
        raise msgspec.ValidationError(f"nested deeper than {_DEEPEST} levels")
    for part in value.values() if type(value) is dict else value:
        kind = type(part)
        if kind is dict or kind is list:
            check_size(part, depth + 1)
        elif kind is int and not -(2**63) <= part < 2**63:
            raise msgspec.ValidationError("a whole number of more than 8 bytes")


#: Digits from which on a whole number may have more than 8 bytes; and a table that makes all digits the same.
_MANY_DIGITS = b"0" * 19
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)


def is_small(text: bytes) -> bool:
    """True if a JSON text can't hold what `check_size` refuses: it has too few brackets and no long row of digits.
    False says nothing. A hundred times as quick as to walk through the values."""
    return text.count(b"{") + text.count(b"[") <= _DEEPEST and _MANY_DIGITS not in text.translate(_DIGITS)


@functools.cache
def _record(kind: type) -> Any:
    from peftbench.config.types import RunConfig  # Brings OmegaConf: only where a record is read.

    within = {**_WITHIN, "config": _described(RunConfig)}
    fields = {f.name: f for f in dataclasses.fields(kind)}
    assert within.keys() <= fields.keys()
    typed = [_field(f, within.get(name, f.type)) for name, f in fields.items()]
    return msgspec.defstruct(kind.__name__, typed, kw_only=True)


@functools.cache
def _described(kind: Any, *, item: bool = False) -> Any:
    """The type of what `identity.description` keeps of a dataclass. A field without a default is required: every record
    has it.

    Args:
        item: whether it stands in a list of such (`items`, a mixture's parts), and has no such lists itself.
    """
    recorded = [f for f in dataclasses.fields(kind) if not f.metadata.get("sink", False) and f.name != "sites"]
    flat = [f for f in recorded if not (item and "items" in f.metadata)]
    return msgspec.defstruct(kind.__name__, [_field(f, _within(f)) for f in flat], kw_only=True)


def _within(f: "dataclasses.Field[Any]") -> Any:
    """The type of what is in a field of a configuration."""
    items = f.metadata.get("items")
    return _typed(f.type) if items is None else list[_described(items(), item=True)] | None  # type: ignore[misc]


def _field(f: "dataclasses.Field[Any]", kind: Any) -> Any:
    required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    return (f.name, kind) if required else (f.name, kind, None)


def _typed(kind: Any) -> Any:
    """A field's type, with its dataclasses replaced by `_described` and its numbers by bounded ones."""
    if dataclasses.is_dataclass(kind):
        return _described(kind)  # type: ignore[arg-type]
    if kind in (int, float):
        return Whole if kind is int else Number
    inner = tuple(_typed(part) for part in typing.get_args(kind))
    if not inner:
        return kind
    origin = typing.get_origin(kind)
    return functools.reduce(operator.or_, inner) if origin in (typing.Union, types.UnionType) else origin[inner]
