"""Strings to be written again: whether a model that starts from nothing learns to write at all.

The path of `generate` is part of the key of every run on the set, as in `demo.py`.
"""

import random

import pyarrow as pa

_TRAIN, _VALIDATION = 4000, 200
_LETTERS = "abcdefgh"


def generate() -> dict[str, pa.Table]:
    """The splits `train` (4,000 rows) and `validation` (200): `source`, three to five letters of eight, and `target`,
    the same. No string is in both."""
    rng = random.Random(20260102)
    strings: dict[str, None] = {}
    while len(strings) < _TRAIN + _VALIDATION:
        strings["".join(rng.choices(_LETTERS, k=rng.randint(3, 5)))] = None
    texts = list(strings)
    rng.shuffle(texts)  # The short ones, of which there are few, would all come first.
    split = {"train": texts[:_TRAIN], "validation": texts[_TRAIN:]}
    return {name: pa.table({"source": part, "target": part}) for name, part in split.items()}
