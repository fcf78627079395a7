"""Calibration against references of ten lines."""

import math

import numpy as np
import pytest
from scipy import special

from peftbench.results.statistics import calibration


def drawn(n: int, labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn by their probabilities: calibrated by construction."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (n, labels))
    return logits, np.array([draw.choice(labels, p=p) for p in special.softmax(logits, axis=1)])


def slow_ece(p: np.ndarray, y: np.ndarray) -> float:
    ranked = sorted(range(len(y)), key=lambda i: max(p[i]))
    total, start = 0.0, 0
    for b in range(15):
        size = len(y) // 15 + (b < len(y) % 15)
        members, start = ranked[start : start + size], start + size
        if members:
            accuracy = sum(int(np.argmax(p[i])) == y[i] for i in members) / size
            total += size * abs(accuracy - sum(max(p[i]) for i in members) / size)
    return total / len(y)


def slow_brier(p: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for row, label in zip(p, y, strict=True):
        for k, probability in enumerate(row):
            total += (probability - (k == label)) ** 2
    return total / len(y)


def slow_selective(p: np.ndarray, y: np.ndarray) -> float:
    ranked = sorted(range(len(y)), key=lambda i: -max(p[i]))[: round(len(y) / 2)]
    return sum(int(np.argmax(p[i])) == y[i] for i in ranked) / len(ranked)


@pytest.mark.parametrize(("n", "labels"), [(7, 2), (100, 2), (1000, 3)])
def test_as_the_references(n: int, labels: int) -> None:
    logits, y = drawn(n, labels, n)
    p = special.softmax(logits, axis=1)
    made = calibration.figures(logits, y, None)
    assert made["ece"] == pytest.approx(slow_ece(p, y), abs=1e-12)
    assert made["brier"] == pytest.approx(slow_brier(p, y), abs=1e-12)
    assert made["selective_accuracy_50"] == pytest.approx(slow_selective(p, y), abs=1e-12)
    assert (made["n"], made["temperature"], made["ece_scaled"]) == (n, None, None)


def test_overconfident_logits_are_scaled_back() -> None:
    logits, y = drawn(4000, 3, 0)
    other, theirs = drawn(4000, 3, 1)
    made = calibration.figures(3 * logits, y, (3 * other, theirs))
    assert made["temperature"] == pytest.approx(3, rel=0.1)
    assert made["ece"] > 0.1 > 0.03 > made["ece_scaled"]
    assert made["brier_scaled"] < made["brier"]
    grid = np.exp(np.linspace(math.log(0.01), math.log(100), 2001))
    losses = [-special.log_softmax(3 * other / t, axis=1)[np.arange(4000), theirs].mean() for t in grid]
    assert made["temperature"] == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)


def test_choices_that_are_not_there_count_nothing() -> None:
    logits = np.array([[1.0, 0.0, -np.inf], [0.0, 1.0, 2.0]])
    y = np.array([0, 2])
    made = calibration.figures(logits, y, (logits, y))
    first, second = special.softmax(logits[0, :2]), special.softmax(logits[1])
    expected = ((1 - first[0]) ** 2 + first[1] ** 2 + second[0] ** 2 + second[1] ** 2 + (1 - second[2]) ** 2) / 2
    assert made["brier"] == pytest.approx(expected)
    assert all(math.isfinite(value) for value in made.values())
