"""Metrics that aren't means, as one number an example: jackknife pseudo-values.

The pseudo-value of example e is N theta - (N - 1) theta(without e); of a mean it is the example's own score. Their mean
and variance over seeds and examples are treated as a mean's. Source: Tukey, Ann. Math. Stat. 29 (1958) 614. Delete-one
values come from sufficient statistics, never from scoring N times. Rows that are scored together are one example.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Jackknife:
    """A metric of all units, and (units,) pseudo-values."""

    whole: float
    values: np.ndarray


#: Of (n,) answers and labels, with the units that the rows belong to: (n,) numbers from 0 on.
Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], Jackknife]
#: By name, the metrics there are.
METRICS: dict[str, Metric] = {}


def _is(name: str) -> Callable[[Metric], Metric]:
    def mark(function: Metric) -> Metric:
        METRICS[name] = function
        return function

    return mark


def from_left_out(whole: float | np.ndarray, without: np.ndarray) -> Jackknife:
    """The jackknife of a metric of all N units, and of (N,) values without each."""
    n = len(without)
    return Jackknife(float(whole), np.asarray(n * whole - (n - 1) * without))


def from_scores(scores: np.ndarray) -> Jackknife:
    """The jackknife of a mean of (N,) scores, which are their own pseudo-values."""
    return Jackknife(float(scores.mean()), np.asarray(scores, float))


@_is("accuracy")
def accuracy(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The jackknife of rows that are units each, right or wrong."""
    right = (answers == labels).astype(float)
    sums, counts = _by_group(right, groups), _by_group(np.ones(len(right)), groups)
    if (counts == 1).all():
        return from_scores(sums)
    return from_left_out(sums.sum() / counts.sum(), (sums.sum() - sums) / (counts.sum() - counts))


@_is("f1")
@_is("f1a")
def f1(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """F1 of label 1: 2 TP / (predicted + true)."""
    both = _by_group((answers == 1) & (labels == 1), groups)
    either = _by_group((answers == 1).astype(float) + (labels == 1), groups)
    return from_left_out(_ratio(2 * both.sum(), either.sum()), _ratio(2 * (both.sum() - both), either.sum() - either))


@_is("f1_macro")
def f1_macro(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The mean F1 of the labels that are predicted or true."""
    classes = np.union1d(answers, labels)
    both = np.stack([_by_group((answers == c) & (labels == c), groups) for c in classes])
    either = np.stack([_by_group((answers == c).astype(float) + (labels == c), groups) for c in classes])
    whole, rest = either.sum(axis=1), either.sum(axis=1)[:, None] - either
    scores = _ratio(2 * (both.sum(axis=1)[:, None] - both), rest)
    return from_left_out(
        float(_ratio(2 * both.sum(axis=1), whole).mean()), _ratio(scores.sum(axis=0), (rest > 0).sum(axis=0))
    )


#: Of (classes, k) counts that are right, predicted and true, the k scores.
_OfCounts = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _of_classes(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray, score: _OfCounts) -> Jackknife:
    """A metric of how often each class is right, predicted and true."""
    classes = np.union1d(answers, labels)
    right = np.stack([_by_group((answers == c) & (labels == c), groups) for c in classes])
    predicted = np.stack([_by_group(answers == c, groups) for c in classes])
    true = np.stack([_by_group(labels == c, groups) for c in classes])
    totals = [counts.sum(axis=1, keepdims=True) for counts in (right, predicted, true)]
    left = [total - counts for total, counts in zip(totals, (right, predicted, true), strict=True)]
    return from_left_out(float(score(*totals)[0]), score(*left))


@_is("f1_weighted")
def f1_weighted(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The mean F1 of the labels, each counted as often as it is true."""

    def score(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return _ratio((true * _ratio(2 * right, predicted + true)).sum(axis=0), true.sum(axis=0))

    return _of_classes(answers, labels, groups, score)


@_is("precision_macro")
def precision_macro(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The mean precision of the labels that are predicted or true."""

    def score(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return _ratio(_ratio(right, predicted).sum(axis=0), (predicted + true > 0).sum(axis=0))

    return _of_classes(answers, labels, groups, score)


@_is("recall_macro")
def recall_macro(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The mean recall of the labels that are predicted or true."""

    def score(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return _ratio(_ratio(right, true).sum(axis=0), (predicted + true > 0).sum(axis=0))

    return _of_classes(answers, labels, groups, score)


@_is("balanced_accuracy")
def balanced_accuracy(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The mean recall of the labels that are true."""

    def score(right: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        return _ratio(_ratio(right, true).sum(axis=0), (true > 0).sum(axis=0))

    return _of_classes(answers, labels, groups, score)


@_is("matthews")
def matthews(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """Matthews correlation of any number of classes. Source: Gorodkin, Comput. Biol. Chem. 28 (2004) 367."""
    classes = np.union1d(answers, labels)
    right = _by_group(answers == labels, groups)
    n = _by_group(np.ones(len(labels)), groups)
    predicted = np.stack([_by_group(answers == c, groups) for c in classes])
    true = np.stack([_by_group(labels == c, groups) for c in classes])

    def score(right: np.ndarray, n: np.ndarray, predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
        spread = (n**2 - (predicted**2).sum(axis=0)) * (n**2 - (true**2).sum(axis=0))
        return _ratio(right * n - (predicted * true).sum(axis=0), np.sqrt(np.maximum(spread, 0)))

    totals = right.sum(), n.sum(), predicted.sum(axis=1), true.sum(axis=1)
    without = score(totals[0] - right, totals[1] - n, totals[2][:, None] - predicted, totals[3][:, None] - true)
    return from_left_out(float(score(*map(np.asarray, totals))), without)


@_is("pearson")
def pearson(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """Pearson correlation; 0 where either is constant."""
    # Centred first: sums of squares about 0 would lose the digits that matter.
    x, y = _centred(answers), _centred(labels)
    sums = np.stack([_by_group(part, groups) for part in (x, y, x * x, y * y, x * y, np.ones(len(x)))])

    def score(sums: np.ndarray) -> np.ndarray:
        sx, sy, sxx, syy, sxy, n = sums
        vx, vy = n * sxx - sx**2, n * syy - sy**2
        varies = (vx > 1e-12 * n * sxx) & (vy > 1e-12 * n * syy)
        return np.where(varies, _ratio(n * sxy - sx * sy, np.sqrt(np.maximum(vx, 0) * np.maximum(vy, 0))), 0.0)

    total = sums.sum(axis=1)
    return from_left_out(float(score(total)), score(total[:, None] - sums))


@_is("spearman")
def spearman(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """Spearman correlation: ranks move by at most one where an example leaves, all at once the same way, so that each
    delete-one value is that of N - 1 ranks made anew from those of all."""
    x, y = np.asarray(answers, float), np.asarray(labels, float)
    rx, ry = _ranked(x), _ranked(y)
    if len(np.unique(groups)) < len(groups):
        units = range(int(groups.max()) + 1)
        return from_left_out(_correlation(rx, ry), np.array([_spearman(x, y, groups != unit) for unit in units]))
    rows = np.argsort(groups)
    return from_left_out(_correlation(rx, ry), np.array([_without(x, y, rx, ry, row) for row in rows]))


@_is("em")
def em(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The jackknife of groups, 1 where all answers of one are right."""
    return from_scores(_by_group(answers != labels, groups) == 0)


@_is("gender_parity")
def gender_parity(answers: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Jackknife:
    """The jackknife of pairs, 1 where one is answered alike."""
    low, high = np.full(int(groups.max()) + 1, np.inf), np.full(int(groups.max()) + 1, -np.inf)
    np.minimum.at(low, groups, answers)
    np.maximum.at(high, groups, answers)
    return from_scores(low == high)


def _by_group(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """(units,) sums over each unit's rows."""
    return np.bincount(groups, weights=np.asarray(values, float))


def _ratio(a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
    """a / b; 0 where b is 0."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    ratio: np.ndarray = np.divide(a, b, out=np.zeros(np.broadcast(a, b).shape), where=b > 0)
    return ratio


def _centred(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    return np.asarray(values - values.mean())


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 on, equal ones at their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


def _without(x: np.ndarray, y: np.ndarray, rx: np.ndarray, ry: np.ndarray, e: int) -> float:
    """The rank correlation without one example: a rank above its falls by 1, one that equals it by a half."""
    fewer = [np.delete(r - (v > v[e]) - (v == v[e]) / 2, e) for r, v in ((rx, x), (ry, y))]
    return _correlation(*fewer)


def _spearman(x: np.ndarray, y: np.ndarray, stay: np.ndarray) -> float:
    return _correlation(_ranked(x[stay]), _ranked(y[stay]))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    spread = float((x @ x) * (y @ y))
    return float(x @ y) / float(np.sqrt(spread)) if spread > 1e-18 * len(x) ** 2 else 0.0
