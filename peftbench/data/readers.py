"""The readers of the task types: the closed table, and those of choices, marked words and rows that belong together.

Free of torch. A new task type is one class here (or beside), one line in `READERS`, and its ways of solving in
`peftbench.tasks`.
"""

import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench.data.examples import NO_LABEL, Example, Reader, column
from peftbench.data.rows import Labelled, Numbers, Texts, check_text, named_column
from peftbench.data.writing import Writing
from peftbench.errors import ConfigError, nearest
from peftbench.schema import DatasetConfig, SpanConfig


class Choices(Texts):
    """Multiple choice: the label is the number of the right one. `choice` is a field of templates."""

    default_metrics: ClassVar[dict[str, str]] = {"accuracy": "max"}

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.label = named_column(config)
        if not config.choices:
            raise ConfigError(
                "dataset.choices: multiple_choice needs the columns of the choices, or that of their list"
            )
        self.listed = config.choices
        self.fields = [*config.text, "choice"]

    def _more(self) -> list[str]:
        return [*self.listed, self.label]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        if len(self.listed) > 1:
            for name in self.listed:
                check_text(table, name, where, key="choices")
        choices = self._choices(table)
        for row, found in enumerate(choices):
            if not found or not all(isinstance(choice, str) for choice in found):
                raise ConfigError(f"dataset.choices={self.listed[0]}: {where} row {row} has no list of texts")
        self._labels(table, choices, where)

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        choices = self._choices(table)
        return [
            Example(row, fields, label, choices=found)
            for row, fields, label, found in zip(
                rows.tolist(), self.texts(table), self._labels(table, choices, ""), choices, strict=True
            )
        ]

    def _choices(self, table: pa.Table) -> list[list[Any]]:
        if len(self.listed) == 1:
            found = column(table, self.listed[0])
            return [list(value) if isinstance(value, list) else [] for value in found]
        return [list(values) for values in zip(*(column(table, name) for name in self.listed), strict=True)]

    def _labels(self, table: pa.Table, choices: list[list[Any]], where: str) -> list[int]:
        """Numbers of choices, or letters (A is the first)."""
        values = column(table, self.label)
        if all(value == NO_LABEL for value in values):
            return [NO_LABEL] * len(values)
        letters = {chr(ord("A") + i): i for i in range(26)}
        found: list[Any] = [letters.get(value, value) if isinstance(value, str) else value for value in values]
        for row, (value, of) in enumerate(zip(found, choices, strict=True)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(of):
                raise ConfigError(
                    f"dataset.label={self.label}: {where} row {row} has {values[row]!r}; allowed are 0 to {len(of) - 1}"
                )
        return found


class Spans(Labelled):
    """Span pair: two words of a text or of two are marked in it. `span1` and `span2` are fields: the bare words."""

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.spans = list(config.spans or [])
        if not self.spans:
            raise ConfigError("dataset.spans: span_pair needs the marked words")
        for span in self.spans:
            if span.text not in config.text:
                raise ConfigError(f"dataset.spans: text={span.text}: {nearest(span.text, config.text)}")
            if bool(span.start and span.end) == bool(span.word and span.surface):
                raise ConfigError("dataset.spans: each has start and end, or word and surface")
        self.fields = [*config.text, *(f"span{i + 1}" for i in range(len(self.spans)))]

    def _more(self) -> list[str]:
        named = [n for span in self.spans for n in (span.start, span.end, span.word, span.surface) if n is not None]
        return [*named, *super()._more()]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        for span in self.spans:
            for row, (text, place) in enumerate(zip(column(table, span.text), self._places(table, span), strict=True)):
                if place is None or not 0 <= place[0] < place[1] <= len(text):
                    raise ConfigError(f"dataset.spans: {where} row {row}: no such word in {span.text} ({text[:40]!r})")

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        places = list(zip(*(self._places(table, span) for span in self.spans), strict=True))
        return [
            self._marked(row, fields, label, found)
            for row, fields, label, found in zip(
                rows.tolist(), self.texts(table), self.labels(table, ""), places, strict=True
            )
        ]

    def _places(self, table: pa.Table, span: SpanConfig) -> list[tuple[int, int] | None]:
        """The characters [start, end) of a span in every row."""
        if span.start is not None and span.end is not None:
            both = zip(column(table, span.start), column(table, span.end), strict=True)
            return [None if start is None or end is None else (start, end) for start, end in both]
        words = zip(*(column(table, str(name)) for name in (span.text, span.word, span.surface)), strict=True)
        return [_words(text, number, surface) for text, number, surface in words]

    def _marked(self, row: int, fields: dict[str, str], label: int, places: tuple[Any, ...]) -> Example:
        """With the marks in the text, and what lies between the outer ones kept."""
        kept: dict[str, tuple[int, int]] = {}
        bare = {f"span{i + 1}": fields[s.text][slice(*places[i])] for i, s in enumerate(self.spans)}
        marked = dict(fields)
        for span, (start, end) in sorted(zip(self.spans, places, strict=True), key=lambda pair: pair[1], reverse=True):
            text, last = marked[span.text], kept.get(span.text, (0, end))[1]
            added = 2 * (len(span.mark) + 1)
            before, word, after = text[:start], text[start:end], text[end:]
            marked[span.text] = f"{before}{span.mark} {word} {span.mark}{after}"
            kept[span.text] = (start, max(last, end) + added)
        return Example(row, {**marked, **bare}, label, kept=kept)


def _words(text: str, number: Any, surface: Any) -> tuple[int, int] | None:
    """The characters of as many words as `surface` has, from word `number` on; words are what stands between blanks.

    By count and not by looking for `surface`: in WSC it differs from the text in case and punctuation here and there.
    """
    words = [match.span() for match in re.finditer(r"\S+", text)]
    size = len(surface.split()) if isinstance(surface, str) else 0
    if not isinstance(number, int) or not size or not 0 <= number <= len(words) - size:
        return None
    return words[number][0], words[number + size - 1][1]


class Together(Labelled):
    """Multi-row, as MultiRC: rows of a yes or no that are scored together (`dataset.group`)."""

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if not config.group:
            raise ConfigError("dataset.group: multi_row needs the columns that tell which rows belong together")
        self.grouped = list(config.group)

    def _more(self) -> list[str]:
        return [*self.grouped, *super()._more()]

    def classes(self, table: pa.Table) -> np.ndarray | None:
        return None


class Candidates(Texts):
    """Multi-row, as ReCoRD: every candidate, put in the place of `dataset.placeholder`, is an example whose label says
    whether it is an answer; those of a row are scored together. `candidate` is a field of templates."""

    answers: ClassVar[str] = "texts"

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if not config.candidates or not config.answers or not config.placeholder:
            raise ConfigError("dataset.candidates: needs dataset.answers and dataset.placeholder beside it")
        if len(config.labels or []) != 2:
            raise ConfigError("dataset.labels: with dataset.candidates, the names of a wrong and a right one")
        self.config, self.candidates, self.right = config, config.candidates, config.answers
        self.placeholder = config.placeholder
        self.fields = [*config.text, "candidate"]

    def _more(self) -> list[str]:
        return [self.candidates, self.right]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        for name in (self.candidates, self.right):
            for row, found in enumerate(column(table, name)):
                if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                    raise ConfigError(f"dataset.candidates={name}: {where} row {row} has no list of texts")
        for row, (fields, found) in enumerate(zip(self.texts(table), column(table, self.candidates), strict=True)):
            if not found:
                raise ConfigError(f"dataset.candidates={self.candidates}: {where} row {row} has none")
            if not any(self.placeholder in text for text in fields.values()):
                raise ConfigError(f"dataset.placeholder={self.placeholder}: {where} row {row} has none")

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        listed = zip(column(table, self.candidates), column(table, self.right), strict=True)
        return [
            Example(
                row,
                {**{k: v.replace(self.placeholder, candidate) for k, v in fields.items()}, "candidate": candidate},
                int(candidate in answers),
                group=row,
                references=answers,
                candidate=candidate,
            )
            for row, fields, (candidates, answers) in zip(rows.tolist(), self.texts(table), listed, strict=True)
            for candidate in dict.fromkeys(candidates)
        ]


class Gaps(Candidates):
    """The same rows, answered by writing the name that fits: an example a row, its placeholder left in the text."""

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.fields = list(config.text)

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        lines = zip(rows.tolist(), self.texts(table), column(table, self.right), strict=True)
        return [Example(row, fields, references=answers) for row, fields, answers in lines]


def _multi_row(config: DatasetConfig) -> Reader:
    return Candidates(config) if config.candidates else Together(config)


#: Task type -> how its rows are read.
READERS: dict[str, Callable[[DatasetConfig], Reader]] = {
    "classification": Labelled,
    "regression": Numbers,
    "multiple_choice": Choices,
    "span_pair": Spans,
    "multi_row": _multi_row,
    "generation": Writing,
}


def reader(config: DatasetConfig) -> Reader:
    """The reader of a data set.

    Raises:
        ConfigError: no such task type, or the data set lacks what it needs.
    """
    if config.task not in READERS:
        raise ConfigError(f"dataset.task={config.task}: {nearest(config.task, sorted(READERS))}")
    return READERS[config.task](config)
