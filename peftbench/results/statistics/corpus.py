"""Metrics of texts as pseudo-values, from what is kept of each example: its score, or what a corpus metric adds up."""

from collections.abc import Callable

import numpy as np

from peftbench.results.statistics.jackknife import Jackknife, from_left_out, from_scores

#: chrF's beta: recall counts so many times as much as precision.
_BETA = 2
#: n-grams that BLEU counts.
_ORDER = 4


def bleu(sums: np.ndarray) -> np.ndarray:
    """(m,) corpus BLEU, smoothing `exp`, of m rows of sums. Source: arXiv 1804.08771; Chen and Cherry, W14-3346,
    method 3.

    Args:
        sums: (m, 11): lengths of texts and references, n-grams that are right and that are there (n = 1 to 4), and
            whether n-grams that are longer than all texts aren't counted (more than 0).
    """
    written, wanted = sums[:, 0], sums[:, 1]
    right, total = sums[:, 2 : 2 + _ORDER], sums[:, 2 + _ORDER : 2 + 2 * _ORDER]
    reached = np.cumprod(total > 0, axis=1).astype(bool)
    missed = reached & (right == 0)
    halved = np.where(missed, 0.5 ** np.cumsum(missed, axis=1), right)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(reached, np.log(halved / np.maximum(total, 1)), -np.inf)
        shortness = np.where(written < wanted, np.exp(1 - wanted / written), 1.0)
    shorter = sums[:, 2 + 2 * _ORDER] > 0
    order = np.where(shorter, reached.sum(axis=1), _ORDER)
    logs[shorter] = np.where(reached[shorter], logs[shorter], 0.0)
    scores = shortness * np.exp(logs.sum(axis=1) / np.maximum(order, 1))
    return np.where((right > 0).any(axis=1) & (written > 0), scores, 0.0)


def chrf(sums: np.ndarray) -> np.ndarray:
    """(m,) corpus chrF of m rows of sums. Source: Popović, 2015, W15-3049.

    Args:
        sums: (m, 3 n): by length of n-grams those of the texts, of their references, and of both.
    """
    texts, references, both = sums[:, 0::3], sums[:, 1::3], sums[:, 2::3]
    present = (texts > 0) & (references > 0)
    orders = np.maximum(present.sum(axis=1), 1)
    precision = np.where(present, both / np.maximum(texts, 1), 0.0).sum(axis=1) / orders
    recall = np.where(present, both / np.maximum(references, 1), 0.0).sum(axis=1) / orders
    weighted = _BETA**2 * precision + recall
    scores: np.ndarray = np.divide(
        (1 + _BETA**2) * precision * recall, weighted, out=np.zeros(len(sums)), where=weighted > 0
    )
    return scores


#: Metrics of texts that are means of what single texts score.
MEANS = ("exact_match", "record_em", "record_f1", "rouge1", "rouge2", "rougeL", "rougeLsum")
#: By name, of (m, k) sums over examples (m,) scores.
METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"bleu": bleu, "chrf": chrf}


def pseudo_values(name: str, statistics: np.ndarray) -> Jackknife | None:
    """The pseudo-values of a metric of texts; None: it can't be made of these numbers.

    Args:
        statistics: (units, k) numbers of each unit; of a mean its score alone.
    """
    if name in MEANS:
        return from_scores(statistics[:, 0])
    if name not in METRICS:
        return None
    total = statistics.sum(axis=0, keepdims=True)
    return from_left_out(float(METRICS[name](total)[0]), METRICS[name](total - statistics))
