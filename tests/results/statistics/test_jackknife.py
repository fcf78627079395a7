"""Pseudo-values against metrics scored N times by the functions that a run calls."""

from collections.abc import Callable

import numpy as np
import pytest

from peftbench.results.statistics import jackknife
from peftbench.tasks.metrics import registry
from peftbench.tasks.metrics.scope import NUMBERS, TEXTS, scope

MADE_OF_LABELS = [name for name in registry.names() if scope(name).kind != TEXTS]


def _answers(name: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if scope(name).kind == NUMBERS:
        labels = rng.integers(0, 6, 40) / 2
        return np.round(labels + rng.normal(size=40), 1), labels
    labels = rng.integers(0, scope(name).classes or 3, 40)
    return np.where(rng.random(40) < 0.7, labels, 1 - labels % 2), labels


def test_every_metric_of_labels_and_numbers_has_pseudo_values() -> None:
    assert set(MADE_OF_LABELS) == set(jackknife.METRICS)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", MADE_OF_LABELS)
def test_pseudo_values_are_those_of_scoring_again_without_each(name: str, grouped: bool) -> None:
    rng = np.random.default_rng(3)
    answers, labels = _answers(name, rng)
    groups = rng.permutation(np.arange(40) // 2 if grouped else np.arange(40))

    def score(rows: np.ndarray) -> float:
        return registry.compute([name], answers[rows], labels[rows], groups=groups[rows])[name]

    made = jackknife.METRICS[name](answers, labels, groups)
    n = int(groups.max()) + 1
    whole = score(groups >= 0)
    assert made.whole == pytest.approx(whole, abs=1e-12)
    assert made.values == pytest.approx([n * whole - (n - 1) * score(groups != unit) for unit in range(n)], abs=1e-9)


@pytest.mark.parametrize("name", ["f1", "f1_macro", "matthews", "pearson", "spearman"])
def test_a_constant_answer_has_a_score_of_its_own(name: str) -> None:
    answers, labels, groups = np.ones(6), np.array([0.0, 1, 1, 0, 1, 0]), np.arange(6)
    made = jackknife.METRICS[name](answers, labels, groups)
    assert np.isfinite(made.values).all()
    assert made.whole == pytest.approx(registry.compute([name], answers, labels)[name])


def test_a_label_that_leaves_with_its_example_is_left_out_of_the_mean() -> None:
    answers, labels = np.array([0, 1, 2, 0, 1]), np.array([0, 1, 2, 0, 1])
    score: Callable[..., jackknife.Jackknife] = jackknife.METRICS["f1_macro"]
    assert score(answers, labels, np.arange(5)).values == pytest.approx(np.ones(5))
