"""The 95 % interval of a mean score over seeds and examples.

A seed's luck, an example's difficulty and their interaction are three sources of variance of x[s, e], the score of seed
s on example e; the interval takes in all three, so that it is of other seeds and other examples of the same kind.
"""

import functools
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from scipy import special

#: The share of intervals that hold what they are of.
LEVEL = 0.95
#: So many seeds or fewer are few: their deviation is hardly known.
FEW_SEEDS = 3


class Basis(StrEnum):
    """The basis of an interval: what it is made of, as readers are told."""

    CROSSED = "seeds and examples"
    EXAMPLES = "examples of one seed"
    SEEDS = "seeds alone"


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % interval.

    Attributes:
        se: standard error; `df` its degrees of freedom (infinite: none are lost).
        examples: None where the interval is of seeds alone.
    """

    mean: float
    low: float
    high: float
    se: float
    df: float
    seeds: int
    examples: int | None
    basis: Basis

    @property
    def few_seeds(self) -> bool:
        """True if it rests on a deviation over two or three seeds."""
        return 1 < self.seeds <= FEW_SEEDS


@dataclass(frozen=True)
class VarianceComponents:
    """The variance of a mean over S seeds and N examples, by source.

    Attributes:
        by_example: (N,) means over seeds.
        v1: of seeds; `v2` of examples; `v3` of their interaction, which is in both. Of one seed v1 and v3 are unknown,
            and 0 here.
        is_share: whether it is a share of right answers whose interval is Wilson's: every score is right (1) or wrong
            (0), of one seed or without any variance.
    """

    by_example: np.ndarray
    seeds: int
    v1: float
    v2: float
    v3: float
    is_share: bool = False

    @property
    def examples(self) -> int:
        return len(self.by_example)

    @functools.cached_property
    def mean(self) -> float:
        return float(self.by_example.mean())

    @property
    def variance(self) -> float:
        """The variance of the mean over other seeds and other examples."""
        return max(self.v1 + self.v2 - self.v3, self.v1, self.v2)


def parts(scores: np.ndarray) -> VarianceComponents:
    """The parts of the variance of the mean of (S, N) scores: seeds by examples, the same examples for all seeds."""
    seeds, examples = scores.shape
    by_example = scores.mean(axis=0)
    v2 = float(np.var(by_example, ddof=1)) / examples if examples > 1 else 0.0
    if seeds == 1 or examples == 1:
        v1 = float(np.var(scores.mean(axis=1), ddof=1)) / seeds if seeds > 1 else 0.0
        varying = VarianceComponents(by_example, seeds, v1, v2, 0.0)
        return replace(varying, is_share=(seeds == 1 or varying.variance == 0) and is_binary(scores))
    by_seed = scores.mean(axis=1)
    rest = scores - by_seed[:, None] - by_example + by_example.mean()
    v3 = float((rest**2).sum()) / ((seeds - 1) * (examples - 1)) / scores.size
    varying = VarianceComponents(by_example, seeds, float(np.var(by_seed, ddof=1)) / seeds, v2, v3)
    return replace(varying, is_share=varying.variance == 0 and is_binary(scores))


def satterthwaite(variance: float, *terms: tuple[float, float]) -> float:
    """Degrees of freedom of a variance that is a sum. Source: Satterthwaite, Biometrics 2 (1946), equation 17.

    Args:
        terms: each a variance with its own degrees of freedom, whatever its sign in the sum.
    """
    spread = sum(term**2 / df for term, df in terms if df > 0)
    return variance**2 / spread if spread > 0 else np.inf


def t_quantile(df: float, probability: float = (1 + LEVEL) / 2) -> float:
    """Student's t quantile."""
    return float(special.stdtrit(df, probability) if np.isfinite(df) else special.ndtri(probability))


def student(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Student's distribution function; the normal one where the degrees of freedom are infinite."""
    finite = np.isfinite(df)
    return np.asarray(np.where(finite, special.stdtr(np.where(finite, df, 1.0), t), special.ndtr(t)))


def student_quantile(df: np.ndarray, probability: float = (1 + LEVEL) / 2) -> np.ndarray:
    """`t_quantile` of many degrees of freedom."""
    finite = np.isfinite(df)
    quantiles = special.stdtrit(np.where(finite, df, 1.0), probability)
    return np.asarray(np.where(finite, quantiles, special.ndtri(probability)))


def two_sided(estimate: float, se: float, df: float) -> float:
    """The two-sided p of an estimate, by Student's t. 1 where neither differs at all."""
    if se == 0:
        return 1.0 if estimate == 0 else 0.0
    tail = -abs(estimate / se)
    return float(2 * (special.stdtr(df, tail) if np.isfinite(df) else special.ndtr(tail)))


def cell(scores: np.ndarray) -> Interval:
    """The interval of one method on one data set, over other seeds and other such examples.

    Args:
        scores: (S, N), each between 0 and 1 or a pseudo-value (`jackknife`). Of one seed the interval is of the
            examples alone: Wilson's where each is right or wrong, which is also what stands where nothing varies.
    """
    return of_parts(parts(scores))


def of_parts(varying: VarianceComponents) -> Interval:
    """The interval of `cell`, from the parts of its variance."""
    seeds, examples, variance = varying.seeds, varying.examples, varying.variance
    basis = Basis.CROSSED if seeds > 1 else Basis.EXAMPLES
    if varying.is_share:
        low, high = wilson(varying.mean * examples, examples)
        return Interval(varying.mean, low, high, float(np.sqrt(variance)), np.inf, seeds, examples, basis)
    df = satterthwaite(
        variance, (varying.v1, seeds - 1), (varying.v2, examples - 1), (varying.v3, (seeds - 1) * (examples - 1))
    )
    return _around(varying.mean, float(np.sqrt(variance)), df, seeds, examples, basis)


def by_seeds(scores: np.ndarray) -> Interval | None:
    """The interval of other seeds on these very examples, from (S,) scores; None for one seed."""
    seeds = len(scores)
    if seeds < 2:
        return None
    se = float(np.std(scores, ddof=1)) / float(np.sqrt(seeds))
    return _around(float(np.mean(scores)), se, seeds - 1.0, seeds, None, Basis.SEEDS)


def wilson(right: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share. Source: Wilson, JASA 22 (1927); Newcombe, Stat. Med. 17 (1998) 857, method 3."""
    z = t_quantile(np.inf)
    middle = (right + z**2 / 2) / (n + z**2)
    half = z * float(np.sqrt(max(right * (n - right) / n, 0.0) + z**2 / 4)) / (n + z**2)
    return max(0.0, middle - half), min(1.0, middle + half)


def is_binary(scores: np.ndarray) -> bool:
    """True if every score is right (1) or wrong (0)."""
    return bool(((scores == 0) | (scores == 1)).all())


def _around(mean: float, se: float, df: float, seeds: int, examples: int | None, basis: Basis) -> Interval:
    half = t_quantile(df) * se if se > 0 else 0.0
    return Interval(mean, mean - half, mean + half, se, df, seeds, examples, basis)
