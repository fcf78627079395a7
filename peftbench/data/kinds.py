"""What a column of the user's own files is read as."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any


class ValueKind(Enum):
    """The kind of a column's values, however the file writes them."""

    #: A text, as it is written: `010` and `NA` too.
    TEXT = auto()
    #: A text, or a list of texts.
    TEXTS = auto()
    #: The right answers: a text or a list of texts, of which there must be one.
    ANSWERS = auto()
    #: A list of texts.
    LIST = auto()
    #: One of `dataset.labels`, by name or index.
    LABEL = auto()
    #: The number of a choice, or its letter.
    CHOICE = auto()
    #: A finite number.
    NUMBER = auto()
    #: A whole number.
    WHOLE = auto()

    @property
    def is_target(self) -> bool:
        """True if a row that lacks this column's value counts as unlabelled."""
        return self in (ValueKind.ANSWERS, ValueKind.LABEL, ValueKind.CHOICE, ValueKind.NUMBER)

    @property
    def is_listed(self) -> bool:
        """True if the column's values may be lists."""
        return self in (ValueKind.TEXTS, ValueKind.ANSWERS, ValueKind.LIST)


@dataclass(frozen=True)
class Role:
    """The part that a column plays: `key` is the configuration's field that names it."""

    column: str
    key: str
    kind: ValueKind


@dataclass(frozen=True)
class Columns:
    """The columns that were read of a file.

    Attributes:
        values: by asked-for name the value of every row: a text, None, or a list of such; anything else is a
            `jsonlines.Structure`.
        names: all that the file has, nested fields as pointers: for messages.
        twice: those that it has more than once.
        rows: how many there are.
    """

    values: dict[str, list[Any]]
    names: list[str]
    twice: set[str] = field(default_factory=set)
    rows: int = 0
