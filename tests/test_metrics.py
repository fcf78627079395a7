"""Metrics against their definitions written out, on random and on awkward inputs."""

import math

import evaluate
import numpy as np
import pytest

from peftbench import metrics


def _counts(predictions: np.ndarray, references: np.ndarray) -> tuple[int, int, int, int]:
    pairs = list(zip(predictions.tolist(), references.tolist(), strict=True))
    return tuple(pairs.count(pair) for pair in ((1, 1), (0, 0), (1, 0), (0, 1)))  # type: ignore[return-value]


def _accuracy(p: np.ndarray, r: np.ndarray) -> float:
    tp, tn, _, _ = _counts(p, r)
    return (tp + tn) / len(p)


def _f1(p: np.ndarray, r: np.ndarray) -> float:
    tp, _, fp, fn = _counts(p, r)
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def _matthews(p: np.ndarray, r: np.ndarray) -> float:
    tp, tn, fp, fn = _counts(p, r)
    below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / below if below else 0.0


DEFINITIONS = {"accuracy": _accuracy, "f1": _f1, "matthews": _matthews}
RANDOM = [tuple(np.random.default_rng(seed).integers(0, 2, (2, 37))) for seed in range(20)]
AWKWARD = [
    (np.zeros(9, int), np.zeros(9, int)),
    (np.ones(9, int), np.ones(9, int)),
    (np.zeros(9, int), np.ones(9, int)),
    (np.ones(8, int), np.array([0, 1] * 4)),
    (np.array([0, 1] * 4), np.ones(8, int)),
    (np.array([1]), np.array([1])),
    (np.array([0]), np.array([1])),
]


def test_every_metric_has_a_definition_here() -> None:
    assert set(metrics.names()) == set(DEFINITIONS)


@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_is_what_its_definition_says(name: str) -> None:
    for predictions, references in RANDOM + AWKWARD:
        assert metrics.get(name)(predictions, references) == pytest.approx(DEFINITIONS[name](predictions, references))


@pytest.mark.parametrize("name", metrics.names())
def test_evaluate_loads_the_module_and_agrees(name: str, tmp_path) -> None:
    module = evaluate.load(metrics.path(name), cache_dir=str(tmp_path))
    predictions, references = RANDOM[0]
    got = module.compute(predictions=predictions, references=references)
    assert got == {name: pytest.approx(metrics.get(name)(predictions, references))}


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(metrics.ConfigError, match="allowed are accuracy, f1, matthews"):
        metrics.get("functions")
