"""A run's scores on each example in a few bytes, as its record carries them: what an interval is made of, without its
predictions.

`metrics.<split>.by_example`  {"n", "units", "levels", "codes"}

An example's score, or pseudo-value, takes few values where it is of labels: two of an accuracy, three or four of F1 and
Matthews. `codes` has, by example, the place of its value in `levels`, in as few bits as suffice, in base64. `units` is
the fingerprint of what tells the examples apart. A record whose scores take more values carries none.
"""

import base64
import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.statistics.answers import Examples

FIELD = "by_example"
#: Values that scores may take to be kept in a record.
_LEVELS = 16
#: More examples than any evaluation split has: a record may be anyone's.
_MOST = 10_000_000


@dataclass(frozen=True, eq=False)
class KeptScores:
    """Scores of a run by example.

    Attributes:
        units: tells which examples these are; equal where they are the same.
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
        return KeptScores(units, n, None, examples.values)
    bits = _bits(len(levels))
    single = (places.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)[::-1]) & 1
    return KeptScores(units, n, levels, np.packbits(single.ravel()).tobytes())


def described(scores: KeptScores) -> dict[str, Any] | None:
    """The scores as JSON has them; None: they take too many values."""
    if scores.levels is None or isinstance(scores.codes, np.ndarray):
        return None
    codes = base64.b64encode(scores.codes).decode()
    return {"n": scores.n, "units": scores.units, "levels": scores.levels.tolist(), "codes": codes}


def recorded(record: RunRecord) -> KeptScores | None:
    """The scores that a record carries of the split that it is scored on; None where there are none that hold."""
    split = record.metrics.get((record.config["dataset"].get("evaluation") or [""])[0])
    found = (split or {}).get(FIELD)
    return _read(found) if isinstance(found, Mapping) else None


def _read(found: Mapping[str, Any]) -> KeptScores | None:
    n, units, levels, codes = (found.get(name) for name in ("n", "units", "levels", "codes"))
    if type(n) is not int or not 0 < n <= _MOST or not isinstance(units, str) or not isinstance(codes, str):
        return None
    if not isinstance(levels, list) or not 0 < len(levels) <= _LEVELS:
        return None
    if not all(type(level) in (int, float) and math.isfinite(level) for level in levels):
        return None
    try:
        packed = base64.b64decode(codes, validate=True)
    except (binascii.Error, ValueError):
        return None
    whole = len(packed) == math.ceil(n * _bits(len(levels)) / 8)
    return KeptScores(units, n, np.array(levels, float), packed) if whole else None


def _bits(levels: int) -> int:
    return max(1, math.ceil(math.log2(levels)))
