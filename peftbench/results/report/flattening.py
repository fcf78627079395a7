"""Nested JSON values as one level of keys and texts."""

import functools
from collections.abc import Mapping
from typing import Any

import msgspec


def flat(value: Mapping[str, Any]) -> dict[str, str]:
    """A nested JSON value as `a.b` -> text, nulls included. Not to be changed: a thousand records of a sweep have a few
    sections in common, and share what is made of them."""
    return _flat(msgspec.json.encode(value))


@functools.lru_cache(maxsize=10_000)
def _flat(encoded: bytes) -> dict[str, str]:
    texts: dict[str, str] = {}
    _flatten(msgspec.json.decode(encoded), "", texts)
    return texts


def _flatten(value: Mapping[str, Any], prefix: str, texts: dict[str, str]) -> None:
    for name, part in value.items():
        if isinstance(part, dict):
            _flatten(part, f"{prefix}{name}.", texts)
        else:
            texts[prefix + name] = part if type(part) is str else str(part)
