"""Scores of predictions against references. Each is a fraction; correlations lie in [-1, 1].

`predictions`, `references`: (n,) integer labels unless said otherwise.

scikit-learn and scipy.stats are imported where they are called: the plan of a command line doesn't wait for them.
"""

import re
import string
from collections import Counter

import numpy as np

from peftbench.tasks.metrics.scope import LABELS, NUMBERS, TEXTS, scores


@scores(LABELS)
def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """The share of labels that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


@scores(LABELS, classes=2)
def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 of label 1, as GLUE scores MRPC and QQP; 0 where nothing is predicted or true as 1."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, pos_label=1, average="binary", zero_division=0.0))


@scores(LABELS)
def f1_macro(predictions: np.ndarray, references: np.ndarray) -> float:
    """The mean of all labels' F1, as SuperGLUE scores CB; of the labels that are predicted or true."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="macro", zero_division=0.0))


@scores(LABELS)
def f1_weighted(predictions: np.ndarray, references: np.ndarray) -> float:
    """The mean of all labels' F1, each counted as often as it is right."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, average="weighted", zero_division=0.0))


@scores(LABELS)
def precision_macro(predictions: np.ndarray, references: np.ndarray) -> float:
    """The mean of all labels' precision; of labels that are predicted or true, 0 for one never predicted."""
    from sklearn.metrics import precision_score

    return float(precision_score(references, predictions, average="macro", zero_division=0.0))


@scores(LABELS)
def recall_macro(predictions: np.ndarray, references: np.ndarray) -> float:
    """The mean of all labels' recall; of labels that are predicted or true, 0 for one never true."""
    from sklearn.metrics import recall_score

    return float(recall_score(references, predictions, average="macro", zero_division=0.0))


@scores(LABELS)
def balanced_accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """The mean recall of the labels that are true: the accuracy if all were equally frequent."""
    from sklearn.metrics import recall_score

    return float(recall_score(references, predictions, labels=np.unique(references), average="macro"))


@scores(LABELS)
def matthews(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation, as GLUE scores CoLA; 0 for a constant prediction."""
    if len(np.union1d(references, predictions)) < 2:
        return 0.0  # scikit-learn's answer too, which comes with a warning.
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


@scores(NUMBERS)
def pearson(predictions: np.ndarray, references: np.ndarray) -> float:
    """Pearson correlation of numbers, as GLUE scores STS-B. Undefined where either is constant: 0 then, since such a
    prediction tells nothing."""
    from scipy import stats

    return _correlation(stats.pearsonr, predictions, references)


@scores(NUMBERS)
def spearman(predictions: np.ndarray, references: np.ndarray) -> float:
    """Spearman correlation of numbers: of their ranks, equal ones at their mean rank. 0 where either is constant."""
    from scipy import stats

    return _correlation(stats.spearmanr, predictions, references)


def _correlation(coefficient: object, predictions: np.ndarray, references: np.ndarray) -> float:
    # In 64 bits before anything is compared: a range below 32 bits' resolution isn't constant.
    a, b = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(coefficient(a, b).statistic)  # type: ignore[operator]


@scores(LABELS, classes=2, groups=True)
def f1a(predictions: np.ndarray, references: np.ndarray, groups: np.ndarray) -> float:
    """F1 of label 1 over all answers, as SuperGLUE scores MultiRC (Khashabi et al., 2018: F1a). `groups` isn't used."""
    return f1(predictions, references)


@scores(LABELS, groups=True)
def em(predictions: np.ndarray, references: np.ndarray, groups: np.ndarray) -> float:
    """The share of questions whose every answer is judged right, as SuperGLUE scores MultiRC.

    groups: (n,), the question of each answer.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    wrong = np.bincount(numbers, weights=np.asarray(predictions) != np.asarray(references))
    return float(np.mean(wrong == 0))


@scores(LABELS, groups=True)
def gender_parity(predictions: np.ndarray, references: np.ndarray, groups: np.ndarray) -> float:
    """The share of pairs that are answered alike, as SuperGLUE scores AX-g (section 3.3). groups: (n,) pairs.

    It is 1 for a constant prediction: look at the accuracy too.
    """
    _, numbers = np.unique(groups, return_inverse=True)
    predicted = np.asarray(predictions)
    low, high = np.full(numbers.max() + 1, np.inf), np.full(numbers.max() + 1, -np.inf)
    np.minimum.at(low, numbers, predicted)
    np.maximum.at(high, numbers, predicted)
    return float(np.mean(low == high))


@scores(TEXTS, mean=True)
def record_f1(predictions: list[str], references: list[list[str]]) -> float:
    """Mean over n texts of the best F1 of words against a right answer, as ReCoRD scores (SQuAD's script)."""
    return float(np.mean([_best(_word_f1, p, r) for p, r in zip(predictions, references, strict=True)]))


@scores(TEXTS, mean=True)
def record_em(predictions: list[str], references: list[list[str]]) -> float:
    """The share of n texts that are one of the right answers, both normalised as ReCoRD's script does."""
    return float(np.mean([_best(_same, p, r) for p, r in zip(predictions, references, strict=True)]))


def _best(score: object, prediction: str, references: list[str]) -> float:
    return max((score(_normal(prediction), _normal(text)) for text in references), default=0.0)  # type: ignore[operator]


def _normal(text: str) -> str:
    """Lower case, without punctuation (ASCII) and articles, single blanks: in this order."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def _same(prediction: str, text: str) -> float:
    return float(prediction == text)


def _word_f1(prediction: str, text: str) -> float:
    """2PR / (P + R) over words counted with their repeats; 0 where none is shared."""
    predicted, right = prediction.split(), text.split()
    shared = sum((Counter(predicted) & Counter(right)).values())
    return 2 * shared / (len(predicted) + len(right)) if shared else 0.0
