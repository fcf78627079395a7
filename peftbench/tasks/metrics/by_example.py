"""What metrics of texts are made of, example by example: kept with predictions, so that intervals need no texts."""

from peftbench.tasks.metrics import sacrebleu_compat, texts
from peftbench.tasks.metrics.scope import METRICS, TEXTS, scope
from peftbench.tasks.metrics.texts import References, Texts

#: Corpus metrics that are made of sums.
CORPUS = ("bleu", "chrf")


def statistics(name: str, predictions: Texts, references: References) -> list[list[float]] | None:
    """The score of each of n texts, where the metric is their mean; of a corpus metric the numbers that it adds up
    (`sacrebleu_compat.statistics`), of BLEU then also 1 where it counts no n-grams that are longer than all texts, else
    0. None for other metrics.
    """
    if name not in METRICS or scope(name).kind != TEXTS:
        return None
    if scope(name).mean:
        return [[METRICS[name]([text], [right])] for text, right in zip(predictions, references, strict=True)]
    if name not in CORPUS:
        return None
    metric = texts.bleu_of(references) if name == "bleu" else texts.chrf_of()
    sums = sacrebleu_compat.statistics(metric, predictions, texts.streams(references))
    further = [float(metric.effective_order)] if name == "bleu" else []
    return [[*map(float, one), *further] for one in sums]
