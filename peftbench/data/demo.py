"""A synthetic English sentiment set, the same rows on every machine: data for a first try without a network.

Sentences about things are built from opinion words; negation, contrast and intensifiers decide what is meant. Good and
bad words are equally frequent under both labels, so that a bag of words is at chance and the structure must be read.
"""

import random
from collections.abc import Callable

import pyarrow as pa

_TRAIN, _VALIDATION = 2400, 600

_THINGS = (
    "film book song meal hotel phone laptop story game concert coffee sofa jacket course museum printer "
    "podcast camera garden recipe ferry bakery novel keyboard"
).split()
_PARTS = "plot service sound price design staff ending taste finish pace menu screen colour view support".split()
_GOOD = (
    "good great excellent delightful charming brilliant pleasant superb lovely wonderful impressive enjoyable "
    "reliable clever elegant"
).split()
_BAD = (
    "bad awful terrible dull boring clumsy horrible poor dreadful unpleasant tedious disappointing ugly shabby annoying"
).split()
_MORE = ["really", "truly", "extremely", "remarkably", "very", "quite", "simply"]
_SOURCES = ["my sister", "the critic", "everyone", "the reviewer", "our neighbour", "a friend"]


def generate() -> dict[str, pa.Table]:
    """The splits `train` (2,400 rows) and `validation` (600): `sentence` and `label` (0 negative, 1 positive).

    The labels are balanced, and no sentence occurs twice, within or across splits.
    """
    rng = random.Random(20260101)
    rows: dict[str, int] = {}
    while len(rows) < _TRAIN + _VALIDATION:
        label = len(rows) % 2
        rows.setdefault(_sentence(rng, label), label)
    items = list(rows.items())
    rng.shuffle(items)
    return {"train": _table(items[:_TRAIN]), "validation": _table(items[_TRAIN:])}


def _table(items: list[tuple[str, int]]) -> pa.Table:
    return pa.table(
        {
            "sentence": pa.array([sentence for sentence, _ in items], pa.string()),
            "label": pa.array([label for _, label in items], pa.int64()),
        }
    )


def _sentence(rng: random.Random, label: int) -> str:
    text = rng.choice(_PATTERNS)(rng, label)
    return text[0].upper() + text[1:] + "."


def _opinion(rng: random.Random, label: int) -> str:
    """An adjective of a polarity, or the opposite one negated: each equally often."""
    if rng.random() < 0.5:
        more = f"{rng.choice(_MORE)} " if rng.random() < 0.5 else ""
        return more + rng.choice((_BAD, _GOOD)[label])
    opposite = rng.choice((_GOOD, _BAD)[label])
    return rng.choice(["not {}", "not at all {}", "far from {}", "anything but {}", "never {}", "hardly {}"]).format(opposite)


def _plain(rng: random.Random, label: int) -> str:
    return f"the {rng.choice(_PARTS)} of this {rng.choice(_THINGS)} is {_opinion(rng, label)}"


def _contrast(rng: random.Random, label: int) -> str:
    """What follows `but` is what is meant; what stands under `although` isn't."""
    thing, (first, second) = rng.choice(_THINGS), rng.sample(_PARTS, 2)
    against, meant = _opinion(rng, 1 - label), _opinion(rng, label)
    if rng.random() < 0.5:
        return f"the {first} of the {thing} was {against}, but all in all it was {meant}"
    if rng.random() < 0.5:
        return f"although its {first} was {against}, the {thing} was {meant}"
    return f"the {thing} was {meant}, even though the {second} was {against}"


def _hearsay(rng: random.Random, label: int) -> str:
    """What others say is the opposite of what the writer found."""
    said, found = _opinion(rng, 1 - label), _opinion(rng, label)
    return f"{rng.choice(_SOURCES)} called the {rng.choice(_THINGS)} {said}, yet i found it {found}"


def _expectation(rng: random.Random, label: int) -> str:
    return f"i expected the {rng.choice(_THINGS)} to be {_opinion(rng, 1 - label)} and it turned out {_opinion(rng, label)}"


_PATTERNS: list[Callable[[random.Random, int], str]] = [_plain, _contrast, _hearsay, _expectation]
