"""A synthetic English sentiment set, the same rows on every machine: data for a first try without a network.

Templates are filled with opinion words. Each is negated as often as not, and in a contrast only one of two opinions
counts, so good and bad words are equally frequent under both labels: a bag of words is at chance, and the structure
must be read. Intensifiers ("not really good") keep a negation and its word from always being neighbours.

`generate` is named by its dotted path (`dataset.generator`), which is part of the key of every run on the set: neither
the function nor this module may move or change its name (see `peftbench.methods.base`).
"""

import random

import pyarrow as pa

_TRAIN, _VALIDATION = 1600, 400

_THINGS = "film book song meal hotel phone laptop story game concert coffee sofa jacket museum camera garden".split()
_PARTS = "plot service sound price design staff ending taste finish menu screen colour".split()
_SOURCES = ["my sister", "the critic", "everyone", "our neighbour", "a friend"]
_GOOD = "good great excellent delightful charming brilliant pleasant superb lovely wonderful impressive clever".split()
_BAD = "bad awful terrible dull boring clumsy horrible poor dreadful tedious ugly annoying".split()
_NOT = ["not", "never", "far from"]
_MORE = ["really", "very", "truly"]

# {meant} has the polarity of the label, {against} the opposite one.
_PLAIN = ["the {part} of this {thing} was {meant}"]
_CONTRAST = [
    "the {part} was {against}, but the {thing} was {meant}",
    "the {thing} was {meant}, although the {part} was {against}",
    "although the {part} was {against}, the {thing} was {meant}",
]
_OTHER_VIEWS = [
    "{source} called the {thing} {against}, yet I found it {meant}",
    "I found the {thing} {meant}, yet {source} called it {against}",
    "I expected the {thing} to be {against} and it was {meant}",
    "the {thing} was {meant} and I expected it to be {against}",
]
# One of these is drawn, then one of its templates: two thirds of the sentences are plain.
_KINDS = [*[_PLAIN] * 4, _CONTRAST, _OTHER_VIEWS]


def generate() -> dict[str, pa.Table]:
    """The splits `train` (1,600 rows) and `validation` (400): `sentence` and `label` (0 negative, 1 positive).

    Labels alternate, so each split is balanced; no sentence occurs twice, within or across splits.
    """
    rng = random.Random(20260101)
    rows: dict[str, int] = {}
    while len(rows) < _TRAIN + _VALIDATION:
        label = len(rows) % 2
        rows.setdefault(_sentence(rng, label), label)
    items = list(rows.items())
    return {"train": _table(items[:_TRAIN]), "validation": _table(items[_TRAIN:])}


def _table(items: list[tuple[str, int]]) -> pa.Table:
    return pa.table(
        {
            "sentence": pa.array([sentence for sentence, _ in items], pa.string()),
            "label": pa.array([label for _, label in items], pa.int64()),
        }
    )


def _sentence(rng: random.Random, label: int) -> str:
    text = rng.choice(rng.choice(_KINDS)).format(
        part=rng.choice(_PARTS),
        thing=rng.choice(_THINGS),
        source=rng.choice(_SOURCES),
        meant=_opinion(rng, label),
        against=_opinion(rng, 1 - label),
    )
    return text[0].upper() + text[1:] + "."


def _opinion(rng: random.Random, polarity: int) -> str:
    """An adjective of the polarity, or of the opposite one and negated: each equally often."""
    negated = rng.random() < 0.5
    words = [rng.choice(_NOT)] if negated else []
    if rng.random() < 0.5:
        words.append(rng.choice(_MORE))
    return " ".join([*words, rng.choice(_GOOD if polarity != negated else _BAD)])
