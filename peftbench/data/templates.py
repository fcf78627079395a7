"""Texts with places `{name}` in them.

Python's own `format` reads `{a.b}`, `{a!r}`, `{a:b}` and `{a[0]}` as something other than a name, and columns are
called so.
"""

import re
from collections.abc import Mapping

#: An escaped brace, a place, or a brace that belongs to neither.
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def names(template: str) -> list[str]:
    """The names in a template, in order, repeats included.

    Raises:
        ValueError: a brace stands alone.
    """
    places = list(_PLACE.finditer(template))
    for place in places:
        if place[0] in ("{", "}"):
            raise ValueError(f"a single '{place[0]}' stands in {template!r}; one that is text is written twice")
    return [place[1] for place in places if place[1] is not None]


def fill(template: str, fields: Mapping[str, str]) -> str:
    """A template that `names` took, with the texts in their places."""
    return _PLACE.sub(lambda place: place[0][0] if place[1] is None else fields[place[1]], template)
