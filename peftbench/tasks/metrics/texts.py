"""Scores of generated texts, (n,) strings, against (n,) lists of one reference or more. Each is a fraction in [0, 1].

ROUGE is the mean over examples of rouge_score's F1, with Porter's stemmer as the summarization papers use it; with
several references an example counts its best. BLEU and chrF are sacrebleu's over the whole corpus, which look at all
references at once; sacrebleu's percentages are divided by 100. Their tokenisers are the libraries' own where these
know the script of the right texts, else those of `scripts`: ROUGE's by example, BLEU's for the whole corpus.
"""

import functools
import re
from collections.abc import Collection, Sequence
from typing import Any

from peftbench.tasks.metrics import scripts
from peftbench.tasks.metrics.scope import TEXTS, scores

Texts = Sequence[str]
References = Sequence[Sequence[str]]

#: Behind a full stop, question or exclamation mark (and a closing quote) and white space, a new sentence begins.
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")
#: And behind those of scripts that set no space there, or another sign.
_OTHER_END = re.compile(r"(?<=[。！？｡])[」』”’）]*\s*|(?<=[.!?।॥؟۔።])[\"'”’)»]*\s+")


@scores(TEXTS, mean=True)
def rouge1(predictions: Texts, references: References) -> float:
    """ROUGE-1: F1 of words. Source: Lin, 2004, section 2."""
    return _rouge("rouge1", predictions, references)


@scores(TEXTS, mean=True)
def rouge2(predictions: Texts, references: References) -> float:
    """ROUGE-2: F1 of pairs of words. Source: Lin, 2004, section 2."""
    return _rouge("rouge2", predictions, references)


@scores(TEXTS, mean=True)
def rougeL(predictions: Texts, references: References) -> float:  # noqa: N802 (the metric's usual name)
    """ROUGE-L: F1 of the longest common subsequence of whole texts. Source: Lin, 2004, section 3.1."""
    return _rouge("rougeL", predictions, references)


@scores(TEXTS, mean=True)
def rougeLsum(predictions: Texts, references: References) -> float:  # noqa: N802
    """ROUGE-L as CNN/DailyMail is scored: the union over sentences. Source: Lin, 2004, section 3.2.

    A text that has lines is taken by its lines; one that hasn't is cut behind `.`, `!` and `?`.
    """
    return _rouge("rougeLsum", predictions, references)


@scores(TEXTS)
def bleu(predictions: Texts, references: References) -> float:
    """Corpus BLEU of one to four words, sacrebleu's 13a tokens or those of another script, smoothing `exp`. Source:
    arXiv 1804.08771. In another script texts of less than four tokens in all are scored by what n-grams they have."""
    return _corpus(bleu_of(references), predictions, references)


def bleu_of(references: References) -> Any:
    """sacrebleu's BLEU for these right texts."""
    from sacrebleu.metrics.bleu import BLEU

    tokens = scripts.sacrebleu_tokeniser(references)
    return BLEU() if tokens == "13a" else BLEU(tokenize=tokens, effective_order=True)


@scores(TEXTS)
def chrf(predictions: Texts, references: References) -> float:
    """Corpus chrF2: F-score (beta 2) of one to six characters. Source: Popović, 2015, W15-3049."""
    return _corpus(chrf_of(), predictions, references)


def chrf_of() -> Any:
    """sacrebleu's chrF2."""
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


@scores(TEXTS, mean=True)
def exact_match(predictions: Texts, references: References) -> float:
    """The share of texts that equal one of their references, white space at the ends and its width aside."""
    same = [
        " ".join(text.split()) in {" ".join(other.split()) for other in texts}
        for text, texts in zip(predictions, references, strict=True)
    ]
    return sum(same) / len(same)


def _rouge(kind: str, predictions: Texts, references: References) -> float:
    best = [_rouge_of(kind, text, tuple(texts)) for text, texts in zip(predictions, references, strict=True)]
    return sum(best) / len(best)


@functools.lru_cache(maxsize=1 << 16)  # Each is wanted twice: for the score, and to be kept beside the answer.
def _rouge_of(kind: str, prediction: str, references: tuple[str, ...]) -> float:
    """Scores one example against the best of its references."""
    usual = scripts.usual(references)
    if kind == "rougeLsum":
        end = _SENTENCE_END if usual else _OTHER_END
        prediction, references = _lines(prediction, end), tuple(_lines(text, end) for text in references)
    return float(_rouge_scorer(kind, usual=usual).score_multi(list(references), prediction)[kind].fmeasure)


class _Words:
    """`scripts.words` as rouge_score calls it."""

    def tokenize(self, text: str) -> list[str]:
        return scripts.words(text)


@functools.cache
def _rouge_scorer(kind: str, *, usual: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=True, split_summaries=False, tokenizer=None if usual else _Words())


def _lines(text: str, end: re.Pattern[str]) -> str:
    return text if "\n" in text.strip() else end.sub("\n", text)


def notes(names: Collection[str], references: References) -> list[str]:
    """Notes for the reader on how metrics split these right texts, in the order of the metrics; empty where all are
    split as usual."""
    others = sum(not scripts.usual(texts) for texts in references)
    tokens = scripts.sacrebleu_tokeniser(references)
    rouge = [name for name in names if name.startswith("rouge")]
    lines = []
    if rouge and others:
        lines.append(
            f"{', '.join(rouge)}: {others} of {len(references)} texts are split into the words (without spaces the "
            "characters) of their script, not into rouge_score's a to z and digits"
        )
    if "bleu" in names and tokens != "13a":
        lines.append(f"bleu: sacrebleu's tokens {tokens}, not 13a")
    return lines


def _corpus(metric: Any, predictions: Texts, references: References) -> float:
    return float(metric.corpus_score(list(predictions), streams(references)).score) / 100


def streams(references: References) -> list[list[str | None]]:
    """The references as sacrebleu takes them: the first of every text, then the second, ...; None where a text has no
    more."""
    most = max(len(texts) for texts in references)
    return [[texts[i] if i < len(texts) else None for texts in references] for i in range(most)]
