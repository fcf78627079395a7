"""Tokens of texts in scripts that ROUGE's and BLEU's usual tokenisers don't know, and which tokeniser a text takes.

rouge_score keeps a to z and digits alone, so that right texts in Russian or Chinese score 0; BLEU's 13a takes a Chinese
sentence for one word. The right texts alone decide: what a model wrote mustn't choose how it is scored. Texts whose
words are mostly Latin keep the usual tokenisers.
"""

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

#: Scripts that put no space between words, as the Unicode names of their characters begin.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN", "BOPOMOFO", "YI")
#: What stands within words of other scripts beside letters, marks and digits: zero-width joiner and non-joiner.
_JOINERS = "\u200c\u200d"

LATIN, HAN, UNSPACED, SPACED, DIGIT, MARK = "latin", "han", "unspaced", "spaced", "digit", "mark"


@functools.cache
def _kind(character: str) -> str | None:
    """The kind of script of a letter, or a digit, or a mark on the letter before it; None for what is no word."""
    category = unicodedata.category(character)[0]
    if category == "M" or character in _JOINERS:
        return MARK
    if category == "N":
        return DIGIT
    if category != "L":
        return None
    name = unicodedata.name(character, "")
    if name.startswith("CJK"):
        return HAN
    if name.startswith(_UNSPACED):
        return UNSPACED
    return LATIN if "LATIN" in name else SPACED


def words(text: str) -> list[str]:
    """The words of a text in any script, in lower case: of scripts without spaces every character, with its marks."""
    return [word for word, _ in _words(text)]


def _words(text: str) -> Iterable[tuple[str, str]]:
    """Words and the kind of their first letter, of digits alone DIGIT."""
    word, kind = "", DIGIT
    for character in unicodedata.normalize("NFC", text).lower():
        script = _kind(character)
        if script == MARK:
            word += character if word else ""
            continue
        if word and (script is None or HAN in (script, kind) or UNSPACED in (script, kind)):
            yield word, kind
            word, kind = "", DIGIT
        if script is not None:
            word, kind = word + character, script if kind == DIGIT else kind
    if word:
        yield word, kind


def counts(texts: Iterable[str]) -> Counter[str]:
    """Counts the words of texts by kind of script; words of digits alone aren't counted."""
    return Counter(kind for text in texts for _, kind in _words(text) if kind != DIGIT)


def usual(texts: Iterable[str]) -> bool:
    """True if the usual tokenisers suit these texts: at most half of their words are of another script than Latin."""
    by_script = counts(texts)
    return by_script[LATIN] * 2 >= by_script.total()


def sacrebleu_tokeniser(references: Sequence[Sequence[str]]) -> str:
    """The name of sacrebleu's tokeniser for right texts: 13a where that knows them; zh for Chinese, char for other
    scripts without spaces (Japanese and Thai words need dictionaries), intl for the rest, as Russian and Hindi."""
    by_script = counts(text for texts in references for text in texts)
    if by_script[LATIN] * 2 >= by_script.total():
        return "13a"
    if by_script[SPACED] > by_script[HAN] + by_script[UNSPACED]:
        return "intl"
    return "zh" if by_script[UNSPACED] * 10 <= by_script[HAN] else "char"
