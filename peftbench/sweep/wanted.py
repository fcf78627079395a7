"""A value that a condition of `exclude` asks for, compared with a run's by what it is, not by how it is written."""

import fnmatch
import functools
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from peftbench.config.values import as_word


@dataclass(frozen=True)
class WantedValue:
    """A value as a condition has it.

    Attributes:
        text: as it is written.
        value: what it means on a command line: `1e-4` is a number, `false` a switch, `[a,b]` a list.
    """

    text: str
    value: Any

    @classmethod
    @functools.cache  # Runs share most of their values, and reading one takes a millisecond.
    def read(cls, text: str) -> "WantedValue":
        """The value that Hydra would read; text that it can't read is text (`[ab]*`)."""
        try:
            value = OverridesParser.create().parse_override(f"x={text}").value()
        except (HydraException, ValueError):
            value = text
        return cls(text, _plain(value))

    def meets(self, actual: Any) -> bool:
        """True if a run's value is this one; a text may match by the wildcards of file names."""
        return _equal(self.value, actual) or fnmatch.fnmatchcase(as_word(actual), self.text)


def _equal(wanted: Any, actual: Any) -> bool:
    if isinstance(wanted, bool) or isinstance(actual, bool):
        return wanted is actual
    if isinstance(wanted, int | float) and isinstance(actual, int | float):
        return wanted == actual
    if isinstance(wanted, str) and isinstance(actual, str):
        return fnmatch.fnmatchcase(actual, wanted)
    if isinstance(wanted, list) and isinstance(actual, list):
        return len(wanted) == len(actual) and all(map(_equal, wanted, actual))
    if isinstance(wanted, dict) and isinstance(actual, dict):
        return wanted.keys() == actual.keys() and all(_equal(wanted[name], actual[name]) for name in wanted)
    return type(wanted) is type(actual) and bool(wanted == actual)


def _plain(value: Any) -> Any:
    """The value without Hydra's own kind of text."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(_plain(name)): _plain(part) for name, part in value.items()}
    return value
