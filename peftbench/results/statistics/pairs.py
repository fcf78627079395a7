"""Two methods on one data set: their difference, its interval and p, and what would separate them.

Examples are paired, seeds are not: pairing them in some order makes significance depend on the order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import special

from peftbench.results.statistics.intervals import (
    Basis,
    VarianceComponents,
    is_binary,
    parts,
    satterthwaite,
    student,
    student_quantile,
    t_quantile,
    two_sided,
    wilson,
)
from peftbench.results.statistics.joint import Joint

#: The chance to see a difference of the observed size that `needed` plans for.
POWER = 0.8
#: More than anybody would run.
_MOST_SEEDS, _MOST_EXAMPLES = 1_000, 10_000_000
_SATTERTHWAITE = "Satterthwaite's t"


@dataclass(frozen=True)
class Difference:
    """Mean a - mean b with its 95 % interval, and the two-sided p of no difference.

    Attributes:
        test: how p was found: Satterthwaite's t, McNemar's exact test, or Welch's t over seeds.
    """

    mean: float
    low: float
    high: float
    se: float
    df: float
    p: float
    basis: Basis
    test: str


@dataclass(frozen=True)
class Needed:
    """The numbers of seeds and of examples that would separate a difference of the observed size in four of five
    studies, all else as it is. None: no number within reach would, the other source of variance alone is too large."""

    seeds: int | None
    examples: int | None


def difference(a: np.ndarray, b: np.ndarray) -> Difference:
    """The difference of (S_a, N) and (S_b, N) scores of the same examples. The numbers of seeds may differ.

    Of one seed each, right or wrong, it is McNemar's exact test, with Newcombe's interval.
    """
    if len(a) == len(b) == 1 and is_binary(a) and is_binary(b):
        return _one_seed(a[0], b[0])
    one, other = parts(a), parts(b)
    paired = paired_variance(one, other)
    basis = Basis.CROSSED if min(len(a), len(b)) > 1 else Basis.EXAMPLES
    return _by_t(one.mean - other.mean, math.sqrt(paired.variance), paired.df, basis, _SATTERTHWAITE)


def differences(made: Joint, seeds: Sequence[int]) -> dict[tuple[int, int], Difference]:
    """The differences of every two of K methods by their joint estimate on the same examples: what `difference` finds
    of each two, but for McNemar's test, all at once.

    Args:
        seeds: (K,) their numbers.
    """
    lead = made.means[:, None] - made.means
    surely = np.where(lead == 0, 1.0, 0.0)
    scaled = np.divide(-np.abs(lead), made.se, out=np.zeros_like(lead), where=made.se > 0)
    p = np.where(made.se > 0, 2 * student(scaled, made.df), surely)
    half = student_quantile(made.df) * made.se
    return {
        (i, j): Difference(
            *(float(lead[i, j]), float(lead[i, j] - half[i, j]), float(lead[i, j] + half[i, j]), float(made.se[i, j])),
            *(float(made.df[i, j]), float(p[i, j])),
            Basis.CROSSED if min(seeds[i], seeds[j]) > 1 else Basis.EXAMPLES,
            _SATTERTHWAITE,
        )
        for i, j in combinations(range(len(lead)), 2)
    }


@dataclass(frozen=True)
class Paired:
    """The variance of a difference of means on the same examples, `by_example` of the examples alone, and its degrees
    of freedom."""

    variance: float
    by_example: float
    df: float


def paired_variance(one: VarianceComponents, other: VarianceComponents) -> Paired:
    """The variance of the difference of two methods' means: five terms, of which each method has two."""
    free = one.examples - 1
    v2 = float(np.var(one.by_example - other.by_example, ddof=1)) / one.examples if free else 0.0
    seeds = one.v1 + other.v1
    variance = max(seeds + v2 - one.v3 - other.v3, v2, seeds)
    terms = [(v2, free)]
    for part in (one, other):
        terms += [(part.v1, part.seeds - 1), (part.v3, (part.seeds - 1) * free)]
    return Paired(variance, v2, satterthwaite(variance, *terms))


def by_seeds(a: np.ndarray, b: np.ndarray) -> Difference | None:
    """The difference of (S_a,) and (S_b,) scores on these very examples, by Welch's t; None for one seed of either."""
    return welch(seeded(a), seeded(b)) if min(len(a), len(b)) > 1 else None


@dataclass(frozen=True)
class Seeded:
    """The mean over seeds, and its variance."""

    mean: float
    variance: float
    seeds: int


def seeded(scores: np.ndarray) -> Seeded:
    """The mean of (S,) scores of two seeds or more, with its variance."""
    return Seeded(float(scores.mean()), float(np.var(scores, ddof=1)) / len(scores), len(scores))


def welch(a: Seeded, b: Seeded) -> Difference:
    """The difference of two means over seeds, by Welch's t."""
    variance = a.variance + b.variance
    df = satterthwaite(variance, (a.variance, a.seeds - 1), (b.variance, b.seeds - 1))
    return _by_t(a.mean - b.mean, math.sqrt(variance), df, Basis.SEEDS, "Welch's t over seeds")


def mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """McNemar's exact two-sided p of (N,) answers that are right (1) or wrong (0)."""
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    return float(min(1.0, 2 * special.bdtr(min(only_a, only_b), only_a + only_b, 0.5))) if only_a + only_b else 1.0


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in their order. Source: Holm, Scand. J. Stat. 6 (1979)."""
    order = np.argsort(ps, kind="stable")
    adjusted = np.empty(len(ps))
    scaled = np.asarray(ps, float)[order] * np.arange(len(ps), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1) if len(ps) else scaled
    return [float(p) for p in adjusted]


def needed(a: np.ndarray, b: np.ndarray) -> Needed:
    """The seeds each, on as many examples, or the examples, with as many seeds, that would separate this difference.

    Args:
        a, b: (S_a, N) and (S_b, N) scores. Of one seed the seeds' variance isn't known: examples alone are counted.
    """
    return needed_of(parts(a), parts(b))


def needed_of(one: VarianceComponents, other: VarianceComponents) -> Needed:
    """The numbers of `needed`, from the parts of both variances."""
    n = one.examples
    apart = abs(one.mean - other.mean)
    both = (one, other)
    # The variance of one seed, one example, and one of each: what the observed variances are made of.
    crossed = sum(part.v3 * part.seeds * n for part in both)
    seed = sum(max(0.0, (part.v1 - part.v3) * part.seeds) for part in both)
    example = max(0.0, n * (paired_variance(one, other).by_example - one.v3 - other.v3))
    held = min(one.seeds, other.seeds)

    def separates(seeds: float, examples: float) -> bool:
        variance = seed / seeds + example / examples + crossed / (seeds * examples)
        df = 2 * (seeds - 1) if seeds > 1 else examples - 1
        return (t_quantile(df) + t_quantile(df, POWER)) * math.sqrt(variance) <= apart

    return Needed(
        seeds=_least(lambda seeds: separates(seeds, n), 2, _MOST_SEEDS) if apart and held > 1 else None,
        examples=_least(lambda examples: separates(held, examples), 2, _MOST_EXAMPLES) if apart else None,
    )


def _least(enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The least whole number from `low` on that is enough; None: not even `most` is."""
    if not enough(most):
        return None
    while low < most:
        middle = (low + most) // 2
        low, most = (low, middle) if enough(middle) else (middle + 1, most)
    return low


def _one_seed(a: np.ndarray, b: np.ndarray) -> Difference:
    low, high = newcombe(a, b)
    apart = a - b
    se = float(np.std(apart, ddof=1)) / math.sqrt(len(a)) if len(a) > 1 else 0.0
    return Difference(
        float(apart.mean()), low, high, se, math.inf, mcnemar(a, b), Basis.EXAMPLES, "McNemar's exact test"
    )


def newcombe(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """The interval of the difference of two shares of the same (N,) examples. Source: Newcombe, Stat. Med. 17 (1998)
    2635, method 10."""
    n, p, q = len(a), float(a.mean()), float(b.mean())
    (low_p, high_p), (low_q, high_q) = wilson(p * n, n), wilson(q * n, n)
    both, only_a = float((a * b).sum()), float((a * (1 - b)).sum())
    only_b, neither = float(((1 - a) * b).sum()), float(((1 - a) * (1 - b)).sum())
    product = both * neither - only_a * only_b
    product = max(product - n / 2, 0.0) if product > 0 else product
    scale = math.sqrt((both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither))
    phi = product / scale if scale else 0.0

    def reach(x: float, y: float) -> float:
        return math.sqrt(max(0.0, x**2 - 2 * phi * x * y + y**2))

    return p - q - reach(p - low_p, high_q - q), p - q + reach(high_p - p, q - low_q)


def _by_t(mean: float, se: float, df: float, basis: Basis, test: str) -> Difference:
    half = t_quantile(df) * se if se > 0 else 0.0
    return Difference(mean, mean - half, mean + half, se, df, two_sided(mean, se, df), basis, test)
