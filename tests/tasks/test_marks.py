"""Marked words of span pairs: nested, adjacent, counted wrongly by the file, and not there."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.data.readers import _with_marks, reader
from peftbench.errors import ConfigError
from tests.helpers.composed import composed

MOTHERS = "Arthur and Celeste ran away, and their mothers are very worried."
STONE = "Some day they might want to use it, but not now."


def _example(text: str, first: tuple[int, str], second: tuple[int, str]):
    rows = [
        {
            "text": text, "label": 1, "span1_index": first[0], "span1_text": first[1],
            "span2_index": second[0], "span2_text": second[1],
        }
    ]  # fmt: skip
    read = reader(composed(["model=tiny_bert", "dataset=wsc"]).dataset)
    table = pa.Table.from_pylist(rows)
    read.check(table, "wsc/train")
    return read.examples(table, np.array([0]))[0]


@pytest.mark.parametrize(
    ("text", "first", "second", "expected"),
    [
        (MOTHERS, (6, "their mothers"), (6, "their"), "away, and * # their # mothers * are"),
        (MOTHERS, (6, "their"), (6, "their mothers"), "away, and # * their * mothers # are"),
        (MOTHERS, (6, "their mothers"), (7, "mothers"), "away, and * their # mothers # * are"),
        (MOTHERS, (6, "their"), (7, "mothers"), "away, and * their * # mothers # are"),
        (MOTHERS, (7, "mothers"), (6, "their"), "away, and # their # * mothers * are"),
        (MOTHERS, (6, "their mothers are"), (7, "mothers"), "and * their # mothers # are * very"),
        # The file's number is one too low, or too high.
        (STONE, (0, "Some day"), (6, "it"), "* Some day * they might want to use # it, # but"),
        (STONE, (1, "some day"), (8, "it"), "* Some day * they might want to use # it, # but"),
        # Right numbers, though the surface's case and signs are others.
        (MOTHERS, (0, "arthur"), (6, "Their"), "* Arthur * and Celeste ran away, and # their # mothers"),
        ("Emma's mother had died long ago, and she wept.", (0, "Emma"), (7, "she"), "* Emma's * mother had died long"),
        # The nearest of several.
        ("It is as it was when it began.", (3, "it"), (5, "it"), "as * it * was when # it # began"),
    ],
)
def test_marks_stand_around_the_words(text: str, first, second, expected: str) -> None:
    example = _example(text, first, second)
    assert expected in example.fields["text"]
    start, end = example.must_stay["text"]
    marked = example.fields["text"][start:end]
    assert marked[0] in "*#"
    assert marked[-1] in "*#"
    assert marked.count("*") == marked.count("#") == 2


def test_bare_words_are_those_that_are_marked() -> None:
    example = _example(STONE, (0, "Some day"), (6, "it"))
    assert (example.fields["span1"], example.fields["span2"]) == ("Some day", "it,")


@pytest.mark.parametrize("second", [(6, "him"), (60, "him"), (6, ""), (6, "it but then")])
def test_words_that_are_nowhere_are_refused(second) -> None:
    with pytest.raises(ConfigError, match="dataset.spans: wsc/train row 0: no such word in text") as error:
        _example(STONE, (0, "Some day"), second)
    assert "\n" not in str(error.value)


_WORDS = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=8)


@given(words=_WORDS, data=st.data())
def test_without_its_marks_the_text_is_what_it_was(words: list[str], data) -> None:
    """And what stands between a span's marks is the span, whatever else is marked in it."""
    text = " ".join(words)
    places = [
        tuple(sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True))))
        for _ in range(2)
    ]
    marked = _with_marks(text, [(*place, mark) for place, mark in zip(places, "*#", strict=True)])
    bare = marked.replace("* ", "").replace(" *", "").replace("# ", "").replace(" #", "")
    assert bare == text
    for (start, end), mark, other in zip(places, "*#", "#*", strict=True):
        within = marked.split(mark)[1][1:-1]
        assert within.replace(f"{other} ", "").replace(f" {other}", "") == text[start:end]
