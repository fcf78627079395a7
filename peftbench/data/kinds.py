"""What a column of the user's own files is read as. Free of torch."""

from dataclasses import dataclass
from enum import Enum, auto


class Kind(Enum):
    """What the values of a column are, however the file writes them."""

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
        """Whether a row without it is a row without a label."""
        return self in (Kind.ANSWERS, Kind.LABEL, Kind.CHOICE, Kind.NUMBER)

    @property
    def is_listed(self) -> bool:
        """Whether its values may be lists."""
        return self in (Kind.TEXTS, Kind.ANSWERS, Kind.LIST)


@dataclass(frozen=True)
class Role:
    """The part that a column plays: `key` is the configuration's field that names it."""

    column: str
    key: str
    kind: Kind
