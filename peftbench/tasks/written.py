"""Numbers and names as text: tasks whose answers aren't label words, and aren't scored as free texts either.

Source: Raffel et al. (T5), arXiv 1910.10683, section 2.4: STS-B's scores rounded to 0.2 and written as digits; of
ReCoRD the name that fits the gap. What is no number counts there as -1, which is right where a number is -1: here as
the end of the right ones' range that is the farther from its own.
"""

import decimal
import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from peftbench.config.dataset_parts import WritingConfig
from peftbench.config.dataset_types import DatasetConfig
from peftbench.data.encode import Encoded
from peftbench.data.examples import Example, Reader
from peftbench.data.readers import Gaps
from peftbench.errors import ConfigError
from peftbench.tasks.base import Answered
from peftbench.tasks.text import Text

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.ASCII | re.IGNORECASE)
#: For all digits of any 64-bit float, divided by a step.
_EXACT = decimal.Context(prec=1000)


@dataclass
class Written(Text):
    """A task whose answer is a number or a name as text: `dataset.writing` says how it is asked for and how long it may
    be."""

    @classmethod
    def check(cls, data: DatasetConfig) -> tuple[list[str], str, WritingConfig]:
        if data.writing is None:
            raise ConfigError(
                f"dataset={data.name}: formulation=text needs dataset.writing, with template and max_new_tokens"
            )
        return [], data.writing.template, data.writing


@dataclass
class Number(Written):
    """Regression: the number in digits, rounded to `dataset.writing.step`; without a step, so that the same number is
    read back."""

    def right(self, example: Example) -> str:
        return in_digits(float(example.label), self.writing.step)

    def answered(self, predictions: Any, examples: Encoded) -> Answered:
        right = examples.labels.double().numpy()
        low, high = right.min(), right.max()
        wrong = np.where(right - low > high - right, low, high)
        answers = [read(text) for text in predictions]
        values = [other if number is None else number for number, other in zip(answers, wrong, strict=True)]
        return Answered(np.array(values), examples.labels.numpy())


def in_digits(value: float, step: float | None) -> str:
    """A number written without an exponent: the multiple of `step` that is nearest (of two the even one), with as many
    decimals as the step has; without a step the shortest digits that are read back as the same number."""
    exact = Decimal(repr(value + 0.0))  # Minus zero is zero.
    if step is None:
        return str(int(exact)) if value.is_integer() else f"{exact:f}"
    unit = Decimal(repr(step)).normalize()
    count = int(_EXACT.divide(exact, unit).to_integral_value(decimal.ROUND_HALF_EVEN, _EXACT))
    return f"{_EXACT.multiply(Decimal(count), unit):.{max(0, -int(unit.as_tuple().exponent))}f}"


def read(text: str) -> float | None:
    """The number that a text is; None where it is none, or too large for one."""
    answer = text.strip()
    number = float(answer) if _NUMBER.fullmatch(answer) else math.inf
    return number if math.isfinite(number) else None


@dataclass
class Name(Written):
    """The candidate that fits the gap, as ReCoRD's metrics compare it with the right ones: one example a query."""

    @classmethod
    def read(cls, data: DatasetConfig) -> Reader:
        return Gaps(data)

    def right(self, example: Example) -> str:
        return example.references[0] if example.references else ""

    def answered(self, predictions: Any, examples: Encoded) -> Answered:
        return Answered(predictions, examples.references or [])
