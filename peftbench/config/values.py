"""Values as a command line has them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

#: Words that Hydra reads as something else than text.
_NO_TEXT = ("null", "true", "false", "nan", "inf")


def as_word(value: Any, text: Callable[[str], str] = str, *, space: str = "") -> str:
    """A value as the command line has it: null, true, a number, a text, a path, `[a,b]`, `{a:b}`.

    Args:
        text: how a text is written, and the keys of a mapping; as it stands, or by `safe`.
        space: what follows a comma and a colon, for a reader.
    """

    def part(inner: Any) -> str:
        return as_word(inner, text, space=space)

    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return text(value)
    if isinstance(value, os.PathLike):
        return safe(os.fspath(value))
    if isinstance(value, Mapping):
        return f"{{{f',{space}'.join(f'{part(name)}:{space}{part(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, list | tuple | range):
        return f"[{f',{space}'.join(map(part, value))}]"
    return str(value)


def safe(text: str) -> str:
    """A text as Hydra reads it back: in quotes, unless it is read as that text without."""
    plain = text[:1].isalpha() and text.isascii() and all(sign.isalnum() or sign in "_-./" for sign in text)
    if plain and text.lower() not in _NO_TEXT:
        return text
    from peftbench.config.wording import quoted  # Brings Hydra.

    return quoted(text)
