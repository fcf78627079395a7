"""The readers of the task types: the closed table, and those of choices, marked words and rows that belong together.

A new task type is one class here (or beside), one line in `READERS`, and its ways of solving in
`peftbench.tasks.table`.
"""

import operator
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench.config.dataset_parts import SpanConfig
from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.examples import NO_LABEL, Example, Reader, column
from peftbench.data.kinds import Role, ValueKind
from peftbench.data.rows import Labelled, Numbers, Texts, check_text, named_column
from peftbench.data.writing import Writing
from peftbench.errors import ConfigError, nearest

#: Choices that a text may number.
_MOST_CHOICES = 1000


class Choices(Texts):
    """Multiple choice: the label is the number of the right one. `choice` is a field of templates."""

    default_metrics: ClassVar[dict[str, str]] = {"accuracy": "max"}
    label_kind: ClassVar[ValueKind] = ValueKind.CHOICE

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        self.label = named_column(config)
        if not config.choices:
            raise ConfigError(
                "dataset.choices: multiple_choice needs the columns of the choices, or that of their list"
            )
        self.listed = config.choices
        self.fields = [*config.text, "choice"]

    def _more(self) -> list[Role]:
        kind = ValueKind.TEXT if len(self.listed) > 1 else ValueKind.LIST
        return [*(Role(name, "choices", kind) for name in self.listed), Role(self.label, "label", self.label_kind)]

    @property
    def shown(self) -> list[str]:
        return [*super().shown, *self.listed]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        if len(self.listed) > 1:
            for name in self.listed:
                check_text(table, name, where, key="choices")
        choices = self._choices(table)
        for row, options in enumerate(choices):
            if not options or not all(isinstance(choice, str) for choice in options):
                raise ConfigError(f"dataset.choices={self.listed[0]}: {where} row {row} has no list of texts")
        self._labels(table, choices, where)

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        choices = self._choices(table)
        return [
            Example(row, fields, label, choices=options)
            for row, fields, label, options in zip(
                rows.tolist(), self.texts(table), self._labels(table, choices, ""), choices, strict=True
            )
        ]

    def _choices(self, table: pa.Table) -> list[list[Any]]:
        if len(self.listed) == 1:
            lists = column(table, self.listed[0])
            return [list(value) if isinstance(value, list) else [] for value in lists]
        return [list(values) for values in zip(*(column(table, name) for name in self.listed), strict=True)]

    def _labels(self, table: pa.Table, choices: list[list[Any]], where: str) -> list[int]:
        """Numbers of choices, which may be texts, or letters (A is the first)."""
        values = column(table, self.label)
        if all(value == NO_LABEL for value in values):
            return [NO_LABEL] * len(values)
        letters = {chr(ord("A") + i): i for i in range(26)} | {str(i): i for i in range(_MOST_CHOICES)}
        indices: list[Any] = [letters.get(value, value) if isinstance(value, str) else value for value in values]
        for row, (value, options) in enumerate(zip(indices, choices, strict=True)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(options):
                allowed = f"0 to {len(options) - 1}"
                raise ConfigError(
                    f"dataset.label={self.label}: {where} row {row} has {values[row]!r}; allowed are {allowed}"
                )
        return indices


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

    def _more(self) -> list[Role]:
        numbers = [name for span in self.spans for name in (span.start, span.end, span.word) if name is not None]
        texts = [span.surface for span in self.spans if span.surface is not None]
        kinds = [*dict.fromkeys(numbers, ValueKind.WHOLE).items(), *dict.fromkeys(texts, ValueKind.TEXT).items()]
        return [*(Role(name, "spans", kind) for name, kind in kinds), *super()._more()]

    @property
    def shown(self) -> list[str]:
        marks = [n for span in self.spans for n in (span.start, span.end, span.word, span.surface) if n is not None]
        return [*super().shown, *marks]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        for span in self.spans:
            for row, (text, place) in enumerate(zip(column(table, span.text), self._places(table, span), strict=True)):
                if place is None or not 0 <= place[0] < place[1] <= len(text):
                    raise ConfigError(f"dataset.spans: {where} row {row}: no such word in {span.text} ({text[:40]!r})")

    def examples(self, table: pa.Table, rows: np.ndarray) -> list[Example]:
        places = list(zip(*(self._places(table, span) for span in self.spans), strict=True))
        return [
            self._marked(row, fields, label, of_row)
            for row, fields, label, of_row in zip(
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
        """Builds an example with the marks in its text; what lies between the outer marks must not be cut."""
        protected: dict[str, tuple[int, int]] = {}
        bare = {f"span{i + 1}": fields[s.text][slice(*places[i])] for i, s in enumerate(self.spans)}
        marked = dict(fields)
        for name in {span.text for span in self.spans}:
            marks = [(*place, span.mark) for span, place in zip(self.spans, places, strict=True) if span.text == name]
            marked[name] = _with_marks(fields[name], marks)
            start, end = min(start for start, _, _ in marks), max(end for _, end, _ in marks)
            protected[name] = (start, end + len(marked[name]) - len(fields[name]))
        return Example(row, {**marked, **bare}, label, must_stay=protected)


def _with_marks(text: str, spans: list[tuple[int, int, str]]) -> str:
    """A text with marks around spans [start, end); where spans nest, the outer one's marks stand outside.

    Marks are put in from the last offset to the first: those that are left to do still hold.
    """
    order = sorted(range(len(spans)), key=lambda i: (spans[i][0], -spans[i][1]))  # Outer ones first.
    marks = []
    for depth, i in enumerate(order):
        start, end, mark = spans[i]
        # One that ends comes before one that begins.
        marks += [(start, 1, depth, f"{mark} "), (end, 0, -depth, f" {mark}")]
    for place, _, _, mark in sorted(marks, reverse=True):
        text = f"{text[:place]}{mark}{text[place:]}"
    return text


def _words(text: str, number: Any, surface: Any) -> tuple[int, int] | None:
    """The characters of as many words as `surface` has, from word `number` on; words are what stands between blanks.

    Where they aren't `surface`, whose case and punctuation are another here and there, the nearest words that are: some
    files' numbers are off by one. None where the text hasn't as many words, or nowhere those.
    """
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    wanted = _bare(surface) if isinstance(surface, str) else []
    if not isinstance(number, int) or isinstance(number, bool) or not wanted:
        return None
    starts = range(len(spans) - len(wanted) + 1)
    for same in (operator.eq, str.startswith):  # "Emma" stands in "Emma's".
        for first in sorted(starts, key=lambda i: abs(i - number)):
            end = first + len(wanted) - 1
            words = [_bare(text[slice(*span)])[0] for span in spans[first : end + 1]]
            if all(same(word, other) for word, other in zip(words, wanted, strict=True)):
                return spans[first][0], spans[end][1]
    return None


def _bare(text: str) -> list[str]:
    """The words of a text in lower case, without what is no letter or digit; of a word of such alone, the word."""
    return ["".join(c for c in word if c.isalnum()) or word for word in text.casefold().split()]


class Together(Labelled):
    """Multi-row, as MultiRC: rows of a yes or no that are scored together (`dataset.group`)."""

    def __init__(self, config: DatasetConfig) -> None:
        super().__init__(config)
        if not config.group:
            raise ConfigError("dataset.group: multi_row needs the columns that tell which rows belong together")
        self.grouped = list(config.group)

    def _more(self) -> list[Role]:
        return [*(Role(name, "group", ValueKind.TEXT) for name in self.grouped), *super()._more()]

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

    def _more(self) -> list[Role]:
        return [Role(self.candidates, "candidates", ValueKind.LIST), Role(self.right, "answers", ValueKind.LIST)]

    def check(self, table: pa.Table, where: str) -> None:
        super().check(table, where)
        for name in (self.candidates, self.right):
            for row, texts in enumerate(column(table, name)):
                if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                    raise ConfigError(f"dataset.candidates={name}: {where} row {row} has no list of texts")
        for row, (fields, texts) in enumerate(zip(self.texts(table), column(table, self.candidates), strict=True)):
            if not texts:
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
