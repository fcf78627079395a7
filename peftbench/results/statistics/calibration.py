"""Whether a model is as often right as it is sure: calibration errors, and accuracy where it is surest."""

import numpy as np
from scipy import optimize, special

#: Bins of the expected calibration error. HELM, arXiv 2211.09110, appendix C.2: of equal mass.
BINS = 15
#: Temperatures that are looked through, as logarithms.
_RANGE = (np.log(1e-2), np.log(1e2))


def ece(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The expected calibration error over 15 bins of equally many examples: the mean, weighted by a bin's examples, of
    |accuracy - confidence|, where confidence is the answer's probability. Source: Naeini et al., AAAI 2015; Guo et al.,
    arXiv 1706.04599, equation 3, whose bins are of equal width.

    Args:
        probabilities: (n, labels); `labels`: (n,) indices.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    bins = [b for b in np.array_split(order, BINS) if len(b)]
    return float(sum(len(b) * abs(right[b].mean() - confidence[b].mean()) for b in bins) / len(labels))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean squared distance of the probabilities from the truth, summed over labels: 0 to 2. Source: Brier, Monthly
    Weather Review 78 (1950) 1, equation 2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def selective_accuracy(probabilities: np.ndarray, labels: np.ndarray, share: float) -> float:
    """The accuracy on the share of examples (at least one) that the model is surest of; of equals, the first."""
    surest = np.argsort(-probabilities.max(axis=1), kind="stable")[: max(1, round(share * len(labels)))]
    return float((probabilities[surest].argmax(axis=1) == labels[surest]).mean())


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """T for which softmax(logits / T) gives the labels the highest likelihood, between 0.01 and 100. Source: Guo et
    al., arXiv 1706.04599, section 4.2."""

    def loss(log_t: float) -> float:
        scores = special.log_softmax(logits / np.exp(log_t), axis=1)
        return float(-scores[np.arange(len(labels)), labels].mean())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=_RANGE, method="bounded").x))


def figures(
    logits: np.ndarray, labels: np.ndarray, selection: tuple[np.ndarray, np.ndarray] | None
) -> dict[str, float | int | None]:
    """A record's `evaluation.calibration`.

    Args:
        logits: (n, labels), -inf where an example has fewer choices; `labels`: (n,).
        selection: logits and labels that the temperature is fitted on; None: it isn't.
    """
    logits = logits.astype(float)
    plain = special.softmax(logits, axis=1)
    made: dict[str, float | int | None] = {
        "n": len(labels),
        "ece": ece(plain, labels),
        "brier": brier(plain, labels),
        "selective_accuracy_50": selective_accuracy(plain, labels, 0.5),
    }
    if selection is None:
        return {**made, "temperature": None, "ece_scaled": None, "brier_scaled": None}
    t = temperature(selection[0].astype(float), selection[1])
    scaled = special.softmax(logits / t, axis=1)
    return {**made, "temperature": t, "ece_scaled": ece(scaled, labels), "brier_scaled": brier(scaled, labels)}
