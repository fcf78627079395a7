"""Strings by the half of the alphabet that they begin with: a label that a model which starts from nothing can learn.

The path of `generate` is part of the key of every run on the set, as in `demo.py`.
"""

import random

import pyarrow as pa

_TRAIN, _VALIDATION = 2000, 200
_LETTERS = "abcdefgh"


def generate() -> dict[str, pa.Table]:
    """The splits `train` (2,000 rows) and `validation` (200): `letters`, four or five of eight, and `label`, 0
    where the first is one of the first four. No string is in both."""
    rng = random.Random(20261129)
    strings: dict[str, None] = {}
    while len(strings) < _TRAIN + _VALIDATION:
        strings["".join(rng.choices(_LETTERS, k=rng.randint(4, 5)))] = None
    texts = list(strings)
    labels = [int(_LETTERS.index(text[0]) >= len(_LETTERS) // 2) for text in texts]
    rows = {"train": slice(_TRAIN), "validation": slice(_TRAIN, None)}
    return {name: pa.table({"letters": texts[part], "label": labels[part]}) for name, part in rows.items()}
