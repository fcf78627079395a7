"""Values as the command line has them, read back by Hydra."""

from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from peftbench.config.values import as_word, safe

VALUES: list[Any] = [
    None,
    True,
    False,
    3,
    0.5,
    1e-5,
    "a",
    "a/b-c.d",
    "",
    "1",
    "1e3",
    "null",
    "True",
    "nan",
    "a b",
    "it's",
]
VALUES += ["C:\\x", "\\'", "a,b", "{a}", "${b}", "ä", [1, "2", None], {"a": [1, "x y"]}, [[], {}]]


def plain(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [plain(part) for part in value]
    return {plain(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("value", VALUES)
def test_hydra_reads_back_what_was_written(value: Any) -> None:
    read = plain(OverridesParser.create().parse_override(f"key={as_word(value, safe)}").value())
    assert read == value
    assert type(read) is type(value)


def test_texts_stand_as_they_are_unless_told_otherwise() -> None:
    assert as_word({"a": ["1", "b c"], "d": None}) == "{a:[1,b c],d:null}"
    assert as_word({"a": [1, True]}, space=" ") == "{a: [1, true]}"
    assert as_word(Path("a b")) == "'a b'"
