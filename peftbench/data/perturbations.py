"""Changes to a text that leave its label as it was: typos, case, contractions.

Source: Liang et al., HELM, arXiv 2211.09110, section 4.5 (invariance to small changes that keep the meaning). A change
is drawn by the seed, the row and the field: the same whatever method, model or seed of the run meets it.
"""

import dataclasses
import random
import re
from collections.abc import Callable, Sequence

from peftbench.data.examples import Example

#: Words with a typo, of those that can have one.
TYPO_RATE = 0.2

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
#: By letter, those beside it on a keyboard.
_BESIDE = {c: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in _ROWS for i, c in enumerate(row)}

_NEGATED = (
    *("is", "are", "was", "were", "do", "does", "did", "has", "have", "had"),
    *("could", "should", "would", "must", "need", "might"),
)
#: Full form and contraction, where one says the other and nothing else. Not "it's" (is, has) or "I'd" (had, would).
CONTRACTIONS = (
    *((f"{verb} not", f"{verb}n't") for verb in _NEGATED),
    *(("cannot", "can't"), ("will not", "won't"), ("i am", "i'm")),
    *((f"{who} are", f"{who}'re") for who in ("you", "we", "they")),
    *((f"{who} have", f"{who}'ve") for who in ("i", "you", "we", "they")),
    *((f"{who} will", f"{who}'ll") for who in ("i", "you", "we", "they", "he", "she")),
)
_OTHER_FORM = {form: other for pair in CONTRACTIONS for form, other in (pair, pair[::-1])}


def _pattern(form: str) -> str:
    """A form as texts have it: with any apostrophe, and as treebanks split it ("is n't"). A pronoun's contraction needs
    a word behind it: "that's who they are" has none."""
    words = re.escape(form).replace(r"\ ", r"\s+").replace("'", "['\N{RIGHT SINGLE QUOTATION MARK}]")
    words = words.replace("n[", r"\s?n[") if form.endswith("n't") else words.replace("['", r"\s?['", 1)
    follows = r"(?=\s+\w)" if form.split()[0].split("'")[0] in ("i", "you", "we", "they", "he", "she") else ""
    return rf"\b{words}\b{follows}"


_FORMS = [(re.compile(_pattern(form), re.IGNORECASE), other) for form, other in _OTHER_FORM.items()]


def typos(text: str, draw: random.Random) -> str:
    """One slip in every fifth or so of the words of at least four letters, never in their first or last letter: two
    letters change places, one is missed, doubled, or the key beside it is struck. Short words, which "not" and "no" are
    among, and numbers stay."""
    return re.sub(r"\b[A-Za-z]{4,}\b", lambda word: _mistyped(word[0], draw), text)


def _mistyped(word: str, draw: random.Random) -> str:
    if draw.random() >= TYPO_RATE:
        return word
    place = draw.randrange(1, len(word) - 1)
    kind, letter = draw.choice(("swap", "miss", "double", "beside")), word[place]
    if kind == "swap" and place < len(word) - 2:
        return word[:place] + word[place + 1] + letter + word[place + 2 :]
    if kind == "miss":
        return word[:place] + word[place + 1 :]
    if kind == "double":
        return word[:place] + letter + word[place:]
    beside = draw.choice(_BESIDE[letter.lower()])
    return word[:place] + (beside.upper() if letter.isupper() else beside) + word[place + 1 :]


def case(text: str, draw: random.Random) -> str:
    """The whole text in small letters, or in capitals."""
    return draw.choice((str.lower, str.upper))(text)


def contractions(text: str, draw: random.Random) -> str:
    """Full forms contracted, and contractions written out."""
    places: dict[int, tuple[int, str]] = {}
    for pattern, other in _FORMS:
        for match in pattern.finditer(text):
            places.setdefault(match.start(), (match.end(), _like(match[0], other)))
    parts, last = [], 0
    for start, (end, other) in sorted(places.items()):
        if start >= last:
            parts += [text[last:start], other]
            last = end
    return "".join([*parts, text[last:]])


def _like(written: str, other: str) -> str:
    """The other form, with a capital where this one has it. "I" is always one."""
    if written.isupper() and len(written.split("'")[0]) > 1:
        return other.upper()
    if written[0].isupper() or other[:1] == "i" and other[:2] in ("i ", "i'"):
        return other[0].upper() + other[1:]
    return other


_ALL: dict[str, Callable[[str, random.Random], str]] = {"typos": typos, "case": case, "contractions": contractions}


def perturb(example: Example, texts: Sequence[str], name: str, seed: int) -> Example:
    """The same example with the fields `texts` changed. What mustn't be cut away (marked words) isn't changed either.

    Args:
        name: of the perturbation.
    """
    fields, protected = dict(example.fields), dict(example.must_stay)
    for field in texts:
        draw, text = random.Random(f"{seed} {name} {example.row} {field}"), fields[field]
        start, end = protected.get(field, (0, 0))
        before = _ALL[name](text[:start], draw) if start else ""
        fields[field] = before + text[start:end] + _ALL[name](text[end:], draw)
        if field in protected:
            protected[field] = (len(before), len(before) + end - start)
    return dataclasses.replace(example, fields=fields, must_stay=protected)
