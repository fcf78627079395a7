"""What sacrebleu adds up over a corpus, which it gives nobody: written against sacrebleu 2.6.

tests/tasks/metrics/test_by_example.py fails where another version's sums aren't these.
"""

from collections.abc import Sequence
from typing import Any


def statistics(metric: Any, predictions: Sequence[str], streams: Sequence[Sequence[str | None]]) -> list[list[int]]:
    """The k numbers of each of n texts whose sums make a metric's corpus score.

    BLEU: the lengths of text and reference, then n-grams that are right and that are there, by n. chrF: by n the
    n-grams of the text, of its reference, and of both.

    Args:
        streams: the first reference of every text, then the second, ...; None where a text has no more.
    """
    # Its own score is made of nothing else; the score of a single text leaves chrF's out.
    sums: list[list[int]] = metric._extract_corpus_statistics(list(predictions), streams)
    return sums
