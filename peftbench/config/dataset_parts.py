"""The dataclasses of a data set's sections: its carved slice, marked spans, and how its answers are written."""

from dataclasses import dataclass, field
from typing import Optional

from peftbench.config.fields import COUNT, ruled
from peftbench.config.rules import between


@dataclass(kw_only=True)
class CarveConfig:
    """The slice that is cut out of train and never trained on: `fraction` of its rows, `at_most` so many, drawn with
    `seed`. What a data set's file leaves out is as here."""

    fraction: float = field(default=0.1, metadata={"rule": between(0, 0.9, above=True)})
    at_most: int = field(default=1000, metadata={"rule": COUNT})
    seed: int = field(default=0, metadata={"rule": between(0, 2**31)})


@dataclass(kw_only=True)
class SpanConfig:
    """A marked word: in which text column; the columns that hold its first and last + 1 character (`start`, `end`), or
    its number among the words and itself (`word`, `surface`); and what is put around it."""

    text: str
    mark: str
    start: Optional[str] = None
    end: Optional[str] = None
    word: Optional[str] = None
    surface: Optional[str] = None


@dataclass(kw_only=True)
class GenerationConfig:
    """The settings by which answers are written: the most tokens, and of a beam search (more than one beam) the power
    of a text's length that its log likelihood is divided by."""

    max_new_tokens: int = ruled(COUNT)
    num_beams: int = field(default=1, metadata={"rule": between(1, 64)})
    length_penalty: float = field(default=1.0, metadata={"rule": between(-10, 10)})


@dataclass(kw_only=True)
class WritingConfig:
    """The settings by which a number or a name is asked for and written, where answers as text are neither label words
    nor free: the text around `{answer}`, its most tokens, and what a number is rounded to (null: nothing)."""

    template: str
    max_new_tokens: int = ruled(COUNT)
    step: Optional[float] = field(default=None, metadata={"rule": between(0, 1e9, above=True)})
