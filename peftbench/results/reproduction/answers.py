"""The answers that measured intervals give to what was said."""

import math
from dataclasses import dataclass, field

HOLDS, FAILS, UNTOLD = "holds here", "doesn't hold here", "can't tell"

Interval = tuple[float, float]


@dataclass(frozen=True)
class ComparedInterval:
    """A measured 90 % interval (None: too few values) of a `figure`, and the bounds of what was said."""

    words: str
    figure: str
    interval: Interval | None
    claimed: Interval

    @property
    def answer(self) -> str:
        """The answer by this interval alone: it lies within what was said, outside, or neither."""
        low, high = self.claimed
        if self.interval is None:
            return UNTOLD
        if low <= self.interval[0] and self.interval[1] <= high:
            return HOLDS
        return FAILS if self.interval[1] < low or self.interval[0] > high else UNTOLD

    @property
    def numbers(self) -> str:
        """The interval and what was said, in words."""
        if self.interval is None:
            return f"{self.words}: too few values"
        return f"{self.words}: {_written(self.interval)}; said is {_written(self.claimed)}"


def _written(interval: Interval) -> str:
    low, high = interval
    return f"at least {low:.4g}" if math.isinf(high) else f"{low:.4g} to {high:.4g}"


@dataclass(frozen=True)
class CheckResult:
    """The answer of records to a check, with the numbers that say it, and the intervals that they are of."""

    answer: str
    numbers: str
    compared: list[ComparedInterval] = field(default_factory=list)
