"""Metrics against their definitions written out, on random and on awkward inputs."""

import math

import evaluate
import numpy as np
import pytest

from peftbench import errors
from peftbench.tasks.metrics import registry, texts


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


def _f1_macro(p: np.ndarray, r: np.ndarray) -> float:
    """Label by label, each against the rest."""
    labels = sorted(set(p.tolist()) | set(r.tolist()))
    return sum(_f1((p == label).astype(int), (r == label).astype(int)) for label in labels) / len(labels)


def _by_label(p: np.ndarray, r: np.ndarray) -> list[tuple[int, int, int]]:
    """Of each label that is predicted or true: right ones, predicted and true ones."""
    labels = sorted(set(p.tolist()) | set(r.tolist()))
    return [(int(((p == k) & (r == k)).sum()), int((p == k).sum()), int((r == k).sum())) for k in labels]


def _f1_weighted(p: np.ndarray, r: np.ndarray) -> float:
    return sum(n * 2 * hits / (m + n) for hits, m, n in _by_label(p, r)) / len(r)


def _precision_macro(p: np.ndarray, r: np.ndarray) -> float:
    shares = [hits / m if m else 0.0 for hits, m, _ in _by_label(p, r)]
    return sum(shares) / len(shares)


def _recall_macro(p: np.ndarray, r: np.ndarray) -> float:
    shares = [hits / n if n else 0.0 for hits, _, n in _by_label(p, r)]
    return sum(shares) / len(shares)


def _balanced_accuracy(p: np.ndarray, r: np.ndarray) -> float:
    shares = [hits / n for hits, _, n in _by_label(p, r) if n]
    return sum(shares) / len(shares)


def _pearson(p: np.ndarray, r: np.ndarray) -> float:
    n, x, y = len(p), [float(v) for v in p], [float(v) for v in r]
    mean_x, mean_y = math.fsum(x) / n, math.fsum(y) / n
    over = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    below = math.sqrt(math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y))
    return over / below if min(np.ptp(x), np.ptp(y)) > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Counted: how many are smaller, and half of the others that are equal."""
    return np.array([sum(v < w for v in values) + (sum(v == w for v in values) - 1) / 2 for w in values])


def _spearman(p: np.ndarray, r: np.ndarray) -> float:
    return _pearson(_ranks(p), _ranks(r))


def _f1a(p: np.ndarray, r: np.ndarray, groups: np.ndarray) -> float:
    return _f1(p, r)


def _em(p: np.ndarray, r: np.ndarray, groups: np.ndarray) -> float:
    questions = sorted(set(groups.tolist()))
    return sum(all(p[i] == r[i] for i in np.flatnonzero(groups == q)) for q in questions) / len(questions)


def _gender_parity(p: np.ndarray, r: np.ndarray, groups: np.ndarray) -> float:
    pairs = sorted(set(groups.tolist()))
    return sum(len(set(p[groups == pair].tolist())) == 1 for pair in pairs) / len(pairs)


def _words(text: str) -> list[str]:
    """Character by character: ASCII signs gone, then articles, which end where a letter or a digit doesn't follow."""
    text = "".join(c for c in text.lower() if not (33 <= ord(c) <= 126 and not c.isalnum()))
    found, word = [], ""
    for c in [*text, " "]:
        if c.isalnum():
            word += c
            continue
        found += [word] if word not in ("a", "an", "the") else [" "]
        found += [c]
        word = ""
    return "".join(found).split()


def _record_em(p: list[str], r: list[list[str]]) -> float:
    return sum(any(_words(text) == _words(right) for right in of) for text, of in zip(p, r, strict=True)) / len(p)


def _record_f1(p: list[str], r: list[list[str]]) -> float:
    def one(text: str, right: str) -> float:
        mine, theirs = _words(text), _words(right)
        left, shared = list(theirs), 0
        for word in mine:
            if word in left:
                left.remove(word)
                shared += 1
        if not shared:
            return 0.0
        precision, recall = shared / len(mine), shared / len(theirs)
        return 2 * precision * recall / (precision + recall)

    return sum(max([one(text, right) for right in of] or [0.0]) for text, of in zip(p, r, strict=True)) / len(p)


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
LABELS = RANDOM + AWKWARD
THREE = [tuple(np.random.default_rng(seed).integers(0, 3, (2, 30))) for seed in range(20)]
NUMBERS = [
    *(tuple(np.random.default_rng(seed).normal(size=(2, 25))) for seed in range(10)),
    *(tuple(np.random.default_rng(seed).integers(0, 4, (2, 25)).astype(float)) for seed in range(10)),  # Ties.
    (np.full(7, 2.5), np.arange(7.0)),
    (np.arange(7.0), np.full(7, 2.5)),
    (np.arange(7.0), -(np.arange(7.0) ** 3)),
    (1e6 + np.arange(5.0) * 1e-3, np.array([0.0, 1, 3, 2, 4])),
    (np.array([1.0]), np.array([1.0])),
]
GROUPED = [
    (p, r, np.random.default_rng(i).permutation(len(p)) % max(1, len(p) // 3)) for i, (p, r) in enumerate(LABELS)
]
TEXTS = [
    (["The cat, of U.N.!"], [["cat of un", "dog"]]),
    (["a a b", "b"], [["a b"], ["b b"]]),
    (["", "the"], [["something"], ["an"]]),
    (["", "the"], [[""], ["cat"]]),
    (["nothing"], [[]]),
    (
        ["Zürich’s naïve “Ænima”", "東京 タワー"],
        [["zürichs naïve ænima", "Zürich’s naïve “ænima”"], ["東京", "タワー 東京"]],
    ),
    (["anthem of the theatre"], [["them of a theatre", "anthem of theatre"]]),
    (["New York City", "York"], [["New York"], ["new-york", "York "]]),
    (["x\ty  z"], [["X Y z"]]),
    (["cafe\u0301 an"], [["cafe\u0301"]]),
]

#: By metric, its definition and what both are tried on.
CASES = {
    "accuracy": (_accuracy, LABELS),
    "f1": (_f1, LABELS),
    "f1_macro": (_f1_macro, LABELS + THREE),
    "f1_weighted": (_f1_weighted, LABELS + THREE),
    "precision_macro": (_precision_macro, LABELS + THREE),
    "recall_macro": (_recall_macro, LABELS + THREE),
    "balanced_accuracy": (_balanced_accuracy, LABELS + THREE),
    "matthews": (_matthews, LABELS),
    "pearson": (_pearson, NUMBERS),
    "spearman": (_spearman, NUMBERS),
    "f1a": (_f1a, GROUPED),
    "em": (_em, GROUPED),
    "gender_parity": (_gender_parity, GROUPED),
    "record_f1": (_record_f1, TEXTS),
    "record_em": (_record_em, TEXTS),
}


def test_every_metric_has_a_definition_here() -> None:
    of_labels = {name for name in registry.names() if not hasattr(texts, name)}
    assert of_labels == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_metric_is_what_its_definition_says(name: str) -> None:
    definition, cases = CASES[name]
    for case in cases:
        assert registry.get(name)(*case) == pytest.approx(definition(*case), abs=1e-9), case


@pytest.mark.parametrize("name", CASES)
def test_evaluate_loads_the_module_and_agrees(name: str, tmp_path) -> None:
    module = evaluate.load(registry.path(name), cache_dir=str(tmp_path))
    case = CASES[name][1][0]
    given = dict(zip(("predictions", "references", "groups"), case, strict=False))
    assert module.compute(**given) == {name: pytest.approx(registry.get(name)(*case))}


def test_groups_go_to_the_metrics_that_take_them() -> None:
    p, r, groups = GROUPED[0]
    found = registry.compute(["accuracy", "em"], p, r, groups=groups)
    assert found == {"accuracy": pytest.approx(_accuracy(p, r)), "em": pytest.approx(_em(p, r, groups))}


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="allowed are accuracy, "):
        registry.get("functions")
