"""Columns of JSON lines, as texts, and the names of nested fields."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from peftbench.errors import ConfigError

if TYPE_CHECKING:
    from peftbench.data.kinds import Columns

#: Names that are collected for messages.
_MOST_NAMES = 200


class NumberText(str):
    """A number as it is written, in a format that tells numbers from texts."""


class Structure(str):
    """A value that is neither a text nor a list of texts, in words."""


class _Object(dict[str, Any]):
    """A JSON object, with the keys that it holds more than once."""

    twice: frozenset[str] = frozenset()


def read(content: bytes, wanted: Sequence[str]) -> "Columns":
    """The wanted columns of a UTF-8 text of one object a line; a key that a line doesn't have is None there.

    Raises:
        ConfigError: a line is no object.
    """
    from peftbench.data.kinds import Columns

    _check_start(content)
    objects = [_object(line, number) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    values = {name: _values(objects, name) for name in wanted}
    names = dict.fromkeys(name for item in objects[:_MOST_NAMES] for name in _names(item))
    twice = {name for item in objects for name in item.twice}
    return Columns({n: v for n, v in values.items() if v is not None}, list(names)[:_MOST_NAMES], twice, len(objects))


def pointed(name: str) -> list[str] | None:
    """The parts of a JSON pointer; None: it is none."""
    return [p.replace("~1", "/").replace("~0", "~") for p in name[1:].split("/")] if name.startswith("/") else None


def escaped(name: str) -> str:
    """A name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _check_start(content: bytes) -> None:
    start = content.lstrip()[:1]
    if not start:
        raise ConfigError("it is empty")
    if start == b"[":
        raise ConfigError("it is one JSON array, and jsonl takes one object a line, without brackets or commas between")


def _object(line: bytes, number: int) -> _Object:
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"line {number} is no JSON object ({reason}); jsonl takes one object a line") from None
    if not isinstance(value, _Object):
        raise ConfigError(f"line {number} is no JSON object; jsonl takes one object a line")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    members = _Object(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        members.twice = frozenset(name for name in names if names.count(name) > 1)
    return members


# Numbers stay as they are written: 1e400 and an integer of 5,000 digits are texts too. NaN is no value.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=NumberText, parse_float=NumberText, parse_constant=lambda _: None
)


def _values(objects: list[_Object], name: str) -> list[Any] | None:
    """A key's value in every object; None where no object has it."""
    parts = [name] if any(name in item for item in objects) else pointed(name)
    if parts is None:
        return None
    nodes = [_inner(item, parts) for item in objects]
    return [_plain(node) for node in nodes] if any(node is not _ABSENT for node in nodes) else None


_ABSENT = object()


def _inner(value: Any, parts: list[str]) -> Any:
    for part in parts:
        if not isinstance(value, _Object) or part not in value:
            return _ABSENT
        if part in value.twice:
            raise ConfigError(f"a line has the key {part!r} twice")
        value = value[part]
    return value


def _plain(value: Any) -> Any:
    """Texts, lists of them, None; the rest in words."""
    if value is None or value is _ABSENT:
        return None
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and _printable(value) != value:
        raise ConfigError(f"a line has half of a character, a lone surrogate, in {_printable(value)[:40]!r}")
    return Structure("an object") if isinstance(value, _Object) else value


def _names(item: _Object, before: str = "") -> list[str]:
    """An object's keys; of objects in it their pointers."""
    names = []
    for name, value in item.items():
        here = f"{before}/{escaped(name)}"
        names += _names(value, here) if isinstance(value, _Object) and value else [here if before else name]
    return list(map(_printable, names))


def _printable(text: str) -> str:
    """A text whose lone surrogates, which no file takes, are written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
