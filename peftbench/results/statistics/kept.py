"""A run's scores on each example in a few bytes, as its record carries them: what an interval is made of, without its
predictions.

`metrics.<split>.by_example`  {"n", "units", "levels", "codes"}

An example's score, or pseudo-value, takes few values where it is of labels: two of an accuracy, three or four of F1 and
Matthews. `codes` has, by example, the place of its value in `levels`, in as few bits as suffice, in base64. `units` is
the fingerprint of what tells the examples apart. A record whose scores take more values carries none.
"""

import base64
import binascii
import functools
import hashlib
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.statistics.answers import SAME, Examples

FIELD = "by_example"
#: Values that scores may take to be kept in a record.
_LEVELS = 16
#: Examples up to which they are kept: of four levels 7 kB.
_IN_A_RECORD = 20_000
#: A pseudo-value is at most about as large as there are examples: sums of squares of these stay finite.
_LARGEST = 1e9
#: Metrics that are a share of the examples: their mean over examples is the score.
SHARES = ("accuracy", "exact_match")


@dataclass(frozen=True, eq=False)
class KeptScores:
    """Scores of a run by example.

    Attributes:
        units: tells which examples these are, and how many; equal where they are the same.
        n: of them.
        levels: the values that scores take, and `codes` which, packed; no levels: `codes` are the (n,) scores.
    """

    units: str
    n: int
    levels: np.ndarray | None
    codes: bytes | np.ndarray

    @property
    def values(self) -> np.ndarray:
        """(n,) scores."""
        if self.levels is None:
            return np.asarray(self.codes, float)
        bits = _bits(len(self.levels))
        single = np.unpackbits(np.frombuffer(self.codes, np.uint8), count=self.n * bits).reshape(self.n, bits)
        places = single @ (1 << np.arange(bits, dtype=np.uint8)[::-1])
        return np.asarray(self.levels.take(places, mode="clip"))


def keep(examples: Examples) -> KeptScores:
    """The scores, packed where they take few values."""
    units = hashlib.sha256(np.ascontiguousarray(examples.units, "<i8").tobytes()).hexdigest()[:16]
    levels, places = np.unique(examples.values, return_inverse=True)
    n = len(examples.values)
    if not 0 < len(levels) <= _LEVELS:
        return KeptScores(_units(units, n), n, None, examples.values)
    bits = _bits(len(levels))
    single = (places.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)[::-1]) & 1
    return KeptScores(_units(units, n), n, levels, np.packbits(single.ravel()).tobytes())


def _units(name: str, n: int) -> str:
    return sys.intern(f"{name}:{n}")  # Many runs have the same examples.


def described(scores: KeptScores) -> dict[str, Any] | None:
    """The scores as JSON has them; None: they take too many values, or are too many for a record to stay small."""
    if scores.levels is None or isinstance(scores.codes, np.ndarray) or scores.n > _IN_A_RECORD:
        return None
    codes = base64.b64encode(scores.codes).decode()
    return {"n": scores.n, "units": scores.units.partition(":")[0], "levels": scores.levels.tolist(), "codes": codes}


def recorded(record: RunRecord) -> KeptScores | None:
    """The scores that a record carries of the split that it is scored on; None where there are none, they aren't whole,
    or are right and wrong answers of which not as many are right as the record says."""
    split = record.scored_split or {}
    scores = _read(split[FIELD]) if isinstance(split.get(FIELD), Mapping) else None
    if scores is None or scores.levels is None:
        return None
    shares = list(split.get("values") or {}) in ([name] for name in SHARES) and {*scores.levels.tolist()} <= {0.0, 1.0}
    return None if shares and abs(_right(scores) - (record.score or 0.0)) > SAME else scores


def _right(scores: KeptScores) -> float:
    """The share of right answers, of scores that are 0 or 1 alone: the share of bits that are set."""
    if scores.levels is None or scores.levels.tolist() != [0.0, 1.0] or isinstance(scores.codes, np.ndarray):
        return float(scores.values.mean())
    bits = int.from_bytes(scores.codes, "big") >> -scores.n % 8  # What fills the last byte may be anything.
    return bits.bit_count() / scores.n


def _read(found: Mapping[str, Any]) -> KeptScores | None:
    n, units, levels, codes = (found.get(name) for name in ("n", "units", "levels", "codes"))
    if type(n) is not int or not 0 < n <= _IN_A_RECORD or not isinstance(units, str) or not isinstance(codes, str):
        return None
    if not isinstance(levels, list) or not 0 < len(levels) <= _LEVELS:
        return None
    if not all(type(level) in (int, float) and abs(level) <= _LARGEST for level in levels):  # False of NaN.
        return None
    try:
        packed = base64.b64decode(codes, validate=True)
    except (binascii.Error, ValueError):
        return None
    whole = len(packed) == math.ceil(n * _bits(len(levels)) / 8)
    return KeptScores(_units(units, n), n, _levels(tuple(map(float, levels))), packed) if whole else None


@functools.lru_cache(maxsize=1024)
def _levels(levels: tuple[float, ...]) -> np.ndarray:
    """The values as an array, which runs of an accuracy have in common."""
    return np.array(levels)


def _bits(levels: int) -> int:
    return max(1, math.ceil(math.log2(levels)))
