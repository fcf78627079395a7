"""What one answer for all scores, and where a score's interval begins, against plain references."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from peftbench.results.statistics import constant

CONFUSIONS = [[[80, 20], [40, 60]], [[3, 30], [9, 400]], [[200, 20], [30, 9]], [[50, 3, 2], [9, 20, 1], [4, 4, 60]]]
REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "f1": lambda right, answers: sk.f1_score(right, answers, zero_division=0.0),
    "f1_macro": lambda right, answers: sk.f1_score(right, answers, average="macro", zero_division=0.0),
    "f1_weighted": lambda right, answers: sk.f1_score(right, answers, average="weighted", zero_division=0.0),
    "matthews": lambda right, answers: sk.matthews_corrcoef(right, answers),
    "balanced_accuracy": lambda right, answers: sk.balanced_accuracy_score(right, answers),
    "precision_macro": lambda right, answers: sk.precision_score(right, answers, average="macro", zero_division=0.0),
    "recall_macro": lambda right, answers: sk.recall_score(right, answers, average="macro", zero_division=0.0),
}
CASES = [(name, c) for name in REFERENCES for c in CONFUSIONS if name != "f1" or len(c) == 2]


def spelt(confusion: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(i, j) for i, line in enumerate(confusion) for j, count in enumerate(line) for _ in range(count)]
    right, answers = np.array(pairs).T
    return right, answers


@pytest.mark.parametrize(("name", "confusion"), CASES)
def test_the_best_constant_is_the_best_of_all(name: str, confusion: list[list[int]]) -> None:
    right, _ = spelt(confusion)
    made = constant.of_labels(name, confusion)
    assert made is not None
    scores = [REFERENCES[name](right, np.full_like(right, c)) for c in range(len(confusion))]
    assert made.score == pytest.approx(max(scores), abs=1e-12)
    assert made.answer is not None
    assert scores[made.answer] == pytest.approx(max(scores), abs=1e-12)


@pytest.mark.parametrize(("name", "confusion"), [(n, c) for n, c in CASES if sum(map(sum, c)) < 250])
def test_the_interval_is_the_jackknifes(name: str, confusion: list[list[int]]) -> None:
    right, answers = spelt(confusion)
    n, score = len(right), REFERENCES[name]
    whole = score(right, answers)
    left_out = np.array([score(np.delete(right, i), np.delete(answers, i)) for i in range(n)])
    pseudo = n * whole - (n - 1) * left_out
    low = pseudo.mean() - stats.t.ppf(0.975, n - 1) * pseudo.std(ddof=1) / np.sqrt(n)
    made = constant.of_labels(name, confusion)
    assert made is not None
    assert made.low == pytest.approx(low, abs=1e-9)


@pytest.mark.parametrize("n", [10, 300])
@pytest.mark.parametrize("r", [-0.3, 0.0, 0.1, 0.9, 1.0])
def test_a_correlations_interval_is_fishers(r: float, n: int) -> None:
    made = constant.of_correlation("pearson", r, n)
    assert made is not None
    assert made.score == 0
    if abs(r) < 1:
        assert made.low == pytest.approx(np.tanh(np.arctanh(r) - stats.norm.ppf(0.975) / np.sqrt(n - 3)), abs=1e-12)
    by_rank = constant.of_correlation("spearman", r, n)
    assert by_rank is not None
    assert by_rank.low <= made.low


@pytest.mark.parametrize("name", ["accuracy", "em", "f1a", "rouge1", "mine.scores.cost", "pearson"])
def test_other_metrics_have_none(name: str) -> None:
    assert constant.of_labels(name, CONFUSIONS[0]) is None


def test_too_few_have_none() -> None:
    assert constant.of_labels("f1", [[1, 0], [0, 0]]) is None
    assert constant.of_correlation("pearson", 0.5, 3) is None
    assert constant.of_correlation("matthews", 0.5, 300) is None
