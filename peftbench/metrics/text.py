"""Scores of generated texts, (n,) strings, against (n,) lists of one reference or more. Each is a fraction in [0, 1].

ROUGE is the mean over examples of rouge_score's F1, with Porter's stemmer as the summarization papers use it; with
several references an example counts its best. BLEU and chrF are sacrebleu's over the whole corpus, which look at all
references at once; sacrebleu's percentages are divided by 100. Their tokenisers are the libraries' own: rouge_score
keeps a to z and digits alone, so that a text without any scores 0.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any

from peftbench.metrics.scope import TEXTS, scores

Texts = Sequence[str]
References = Sequence[Sequence[str]]

#: Behind a full stop, question or exclamation mark (and a closing quote) and white space, a new sentence begins.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")


@scores(TEXTS)
def rouge1(predictions: Texts, references: References) -> float:
    """ROUGE-1: F1 of words. Source: Lin, 2004, section 2."""
    return _rouge("rouge1", predictions, references)


@scores(TEXTS)
def rouge2(predictions: Texts, references: References) -> float:
    """ROUGE-2: F1 of pairs of words. Source: Lin, 2004, section 2."""
    return _rouge("rouge2", predictions, references)


@scores(TEXTS)
def rougeL(predictions: Texts, references: References) -> float:  # noqa: N802 (the metric's usual name)
    """ROUGE-L: F1 of the longest common subsequence of whole texts. Source: Lin, 2004, section 3.1."""
    return _rouge("rougeL", predictions, references)


@scores(TEXTS)
def rougeLsum(predictions: Texts, references: References) -> float:  # noqa: N802
    """ROUGE-L as CNN/DailyMail is scored: the union over sentences. Source: Lin, 2004, section 3.2.

    A text that has lines is taken by its lines; one that hasn't is cut behind `.`, `!` and `?`.
    """
    as_lines = [[_lines(text) for text in texts] for texts in references]
    return _rouge("rougeLsum", [_lines(text) for text in predictions], as_lines)


@scores(TEXTS)
def bleu(predictions: Texts, references: References) -> float:
    """Corpus BLEU of one to four words, sacrebleu's 13a tokens, smoothing `exp`. Source: arXiv 1804.08771."""
    from sacrebleu.metrics.bleu import BLEU

    return _corpus(BLEU(), predictions, references)


@scores(TEXTS)
def chrf(predictions: Texts, references: References) -> float:
    """Corpus chrF2: F-score (beta 2) of one to six characters. Source: Popović, 2015, W15-3049."""
    from sacrebleu.metrics.chrf import CHRF

    return _corpus(CHRF(), predictions, references)


@scores(TEXTS)
def exact_match(predictions: Texts, references: References) -> float:
    """The share of texts that equal one of their references, white space at the ends and its width aside."""
    same = [
        " ".join(text.split()) in {" ".join(other.split()) for other in texts}
        for text, texts in zip(predictions, references, strict=True)
    ]
    return sum(same) / len(same)


def _rouge(kind: str, predictions: Texts, references: References) -> float:
    scorer = _rouge_scorer(kind)
    best = [
        scorer.score_multi(list(texts), text)[kind].fmeasure
        for text, texts in zip(predictions, references, strict=True)
    ]
    return sum(best) / len(best)


@functools.cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True, split_summaries=False)


def _lines(text: str) -> str:
    return text if "\n" in text.strip() else _SENTENCE_END.sub("\n", text)


def _corpus(metric: Any, predictions: Texts, references: References) -> float:
    """sacrebleu takes the first reference of every text, then the second, ...; None where a text has no more."""
    most = max(len(texts) for texts in references)
    streams = [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
    return float(metric.corpus_score(list(predictions), streams).score) / 100
