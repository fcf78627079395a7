"""Several methods on the same data: who may be the best, and between which ranks each lies.

Means have one joint covariance: examples are common to all, seeds are each method's own. Draws with it answer all
questions, so that no two answers contradict each other. The same scores give the same draws.

The deviation over a few seeds is itself hardly known: a method's own part is drawn from Student's t with its own
degrees of freedom. One number of them for all methods, as a multivariate t has, would take a method whose seeds differ
much for as well known as the others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from peftbench.results.statistics.intervals import LEVEL, VarianceComponents, parts, satterthwaite, student, t_quantile

#: The .95 quantile of so many draws has an error of .002 in its level.
DRAWS = 10_000


@dataclass(frozen=True)
class Joint:
    """K means with what they vary together.

    Attributes:
        means: (K,).
        common: (K, K) covariance of the means by the examples; zero where the intervals are of seeds alone.
        own: (K,) variance by a method's own seeds; `free`: (K,) its degrees of freedom, infinite where it is zero.
        se: (K, K) standard errors of the differences; `df`: (K, K) their degrees of freedom.
    """

    means: np.ndarray
    common: np.ndarray
    own: np.ndarray
    free: np.ndarray
    se: np.ndarray
    df: np.ndarray

    def errors(self, draws: int = DRAWS, salt: str = "") -> np.ndarray:
        """(draws, K) errors of the means: normal by the examples, which are many, and t by a method's own seeds.

        Args:
            salt: another one gives other draws: data sets whose scores are the same are drawn apart.
        """
        rng, single = np.random.default_rng(self._seed(salt)), np.float32  # Seven digits, in half of the time.
        normal = rng.standard_normal((draws, len(self.means)), single)
        if self.common.any():
            values, vectors = np.linalg.eigh(self.common)
            normal = normal @ (vectors * np.sqrt(np.maximum(values, 0))).T.astype(single)
        else:
            normal = np.zeros_like(normal)
        own = rng.standard_normal((draws, len(self.means)), single) * np.sqrt(self.own).astype(single)
        few = np.isfinite(self.free)
        half = self.free[few] / 2  # A chi-square is twice a gamma of half its degrees of freedom.
        gamma = rng.standard_gamma(half, (draws, int(few.sum())))  # A single one is 0 at times.
        own[:, few] /= np.sqrt(gamma / half).astype(single)
        drawn: np.ndarray = normal + own
        return drawn

    def select(self, methods: Sequence[int] | np.ndarray) -> "Joint":
        """The same of some of the methods, in this order."""
        chosen = np.asarray(methods, int)
        both = np.ix_(chosen, chosen)
        return Joint(
            *(self.means[chosen], self.common[both], self.own[chosen], self.free[chosen]), self.se[both], self.df[both]
        )

    def _seed(self, salt: str) -> int:
        # Rounded: on another machine the last digits may differ.
        content = b"".join(np.round(part, 10).astype("<f8").tobytes() for part in (self.means, self.common, self.own))
        return int.from_bytes(hashlib.sha256(salt.encode() + content).digest()[:8], "little")


def crossed(scores: Sequence[np.ndarray]) -> Joint:
    """The joint estimate of (S_k, N) scores of K methods on the same N examples; the numbers of seeds may differ."""
    return of_parts([parts(one) for one in scores])


def of_parts(by_method: Sequence[VarianceComponents]) -> Joint:
    """The joint estimate of `crossed`, from the parts of the methods' variances."""
    examples = by_method[0].examples
    columns = np.stack([one.by_example for one in by_method])
    common = np.atleast_2d(np.cov(columns)) / examples if examples > 1 else np.zeros((len(columns),) * 2)
    own = np.array([max(one.v1 - one.v3, 0.0) for one in by_method])
    free = np.where(own > 0, [one.seeds - 1.0 for one in by_method], np.inf)
    return Joint(np.array([one.mean for one in by_method]), common, own, free, *_paired(by_method, common))


def _paired(by_method: Sequence[VarianceComponents], common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, K) standard errors of all differences and their degrees of freedom: `pairs.paired_variance` of every two."""
    v1, v3, seeds = (np.array([getattr(one, name) for one in by_method], float) for name in ("v1", "v3", "seeds"))
    single = np.diag(common)
    v2 = np.maximum(single[:, None] + single - 2 * common, 0.0)
    luck, less, examples = v1[:, None] + v1, v3[:, None] + v3, by_method[0].examples - 1
    variance = np.maximum(luck + v2 - less, np.maximum(v2, luck))
    of_method = np.divide(v1**2, seeds - 1, out=np.zeros_like(v1), where=seeds > 1)
    of_method += np.divide(v3**2, (seeds - 1) * examples, out=np.zeros_like(v3), where=(seeds > 1) & (examples > 0))
    spread = of_method[:, None] + of_method + (v2**2 / examples if examples else 0.0)
    np.fill_diagonal(variance, 0.0)
    df = np.divide(variance**2, spread, out=np.full_like(variance, np.inf), where=spread > 0)
    np.fill_diagonal(df, np.inf)
    return np.sqrt(variance), df


def by_seeds(scores: Sequence[np.ndarray]) -> Joint:
    """The joint estimate of (S_k,) scores of K methods, two seeds each or more, on these very examples."""
    own = np.array([np.var(one, ddof=1) / len(one) for one in scores])
    free = np.array([len(one) - 1.0 for one in scores])
    total, df = own[:, None] + own, np.full((len(own),) * 2, np.inf)
    for j, k in combinations(range(len(own)), 2):
        df[j, k] = df[k, j] = satterthwaite(total[j, k], (own[j], free[j]), (own[k], free[k]))
    se = np.sqrt(total)
    np.fill_diagonal(se, 0.0)
    means = np.array([np.mean(one) for one in scores])
    return Joint(means, np.zeros(total.shape), own, np.where(own > 0, free, np.inf), se, df)


def ties(joint: Joint) -> list[bool]:
    """A flag for each method, true if it can't be told from the best: multiple comparisons with the best.

    A method leaves if the surest lead of another over it is surer than the .95 quantile of that surest lead where all
    means are equal. Leads have their own degrees of freedom, and are compared by the normal quantile that is as rare:
    else those of a method whose seeds differ much would hide what is known of the others.
    Source: Hsu, Ann. Statist. 9 (1981) 1026.
    """
    count, drawn = len(joint.means), np.sqrt(_spread(joint))
    errors: np.ndarray | None = None
    stay = []
    for k in range(count):
        others = np.arange(count) != k
        lead, varies = joint.means[others] - joint.means[k], joint.se[k, others] > 0
        among = np.flatnonzero(others)[varies]
        df, scaled = joint.df[k, among], lead[varies] / joint.se[k, among]
        # The surest lead's quantile lies between that of one lead and Bonferroni's: most need no draws.
        surest = float(student(scaled, df).max()) if varies.any() else 0.0
        if (lead[~varies] > 0).any() or surest > 1 - (1 - LEVEL) / max(count - 1, 1):
            stay.append(False)  # Of those that never vary, another is better for certain.
        elif surest <= LEVEL:
            stay.append(True)
        else:
            errors = np.ascontiguousarray(joint.errors().T) if errors is None else errors  # A row a method: quicker.
            leads = errors[among] - errors[k]
            leads /= _positive(drawn[k, among])[:, None].astype(leads.dtype)
            most = np.quantile(_normal(leads, df[:, None].astype(leads.dtype)).max(axis=0), LEVEL)
            stay.append(bool(_normal(scaled, df).max() <= most))
    return stay


def _normal(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """The normal quantile about as rare as a Student's t. Source: Wallace, Ann. Math. Stat. 30 (1959) 1121."""
    finite = np.where(np.isfinite(df), df, 1.0)
    bent = (8 * finite + 1) / (8 * finite + 3) * np.sqrt(finite * np.log1p(t**2 / finite))
    return np.where(np.isfinite(df), np.copysign(bent, t), t)


def better(joint: Joint) -> np.ndarray:
    """(K, K): the chance that the method of the row is better than that of the column, by the t of their difference;
    of equals a half."""
    lead, spread = joint.means[:, None] - joint.means, np.sqrt(_spread(joint))
    certain = np.select([lead > 0, lead < 0], [np.inf, -np.inf], 0.0)
    scaled = np.divide(lead, spread, out=certain, where=spread > 0)
    return student(scaled, joint.df)


def improvement(better_by_data_set: Sequence[np.ndarray]) -> np.ndarray:
    """(K, K) probability of improvement over data sets: the mean of `better`. Source: arXiv 2108.13264, section 4.

    Args:
        better_by_data_set: of each data set (K, K), the same methods in the same order.
    """
    return np.asarray(np.mean(better_by_data_set, axis=0))


@dataclass(frozen=True)
class Ranks:
    """The ranks of methods by their mean over data sets. 1 is the best; of equal means the first has the lower rank.

    Attributes:
        low, high: (K,) the ranks that hold 95 % of the draws.
        best: (K,) the share of draws in which a method is the best: of 12 equal ones the leader has .4, so it is a
            detail and never says who is best.
    """

    low: np.ndarray
    high: np.ndarray
    best: np.ndarray


def ranks(joints: Sequence[Joint]) -> Ranks:
    """Ranks of K methods by their mean over data sets, from joint draws.

    Args:
        joints: of each data set, the same K methods in the same order.
    """
    drawn = sum(joint.means + joint.errors(salt=str(i)) for i, joint in enumerate(joints)) / len(joints)
    order = np.argsort(-drawn, axis=1, kind="stable")
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(1, drawn.shape[1] + 1)[None, :], axis=1)
    low, high = np.quantile(places, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0, method="inverted_cdf")
    return Ranks(low, high, (places == 1).mean(axis=0))


@dataclass(frozen=True)
class Share:
    """A share of the way from one method to another, with its 95 % interval."""

    share: float
    low: float
    high: float


def way(joint: Joint, start: int, end: int) -> list[Share | None] | None:
    """The share of the way from one method (the linear probe) to another (full fine-tuning) that each method has gone:
    0 and 1 are these two. None where that way isn't separated from zero, since a share of nothing says nothing.
    """
    span = joint.means[end] - joint.means[start]
    if span <= 0 or span <= t_quantile(joint.df[start, end]) * joint.se[start, end]:
        return None
    values = joint.means + joint.errors()
    drawn = (values - values[:, [start]]) / (values[:, [end]] - values[:, [start]])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    shares = (joint.means - joint.means[start]) / span
    return [
        None if k in (start, end) else Share(float(shares[k]), float(low[k]), float(high[k]))
        for k in range(len(shares))
    ]


def _spread(joint: Joint) -> np.ndarray:
    """(K, K) variances of the differences, as the draws have them before they are divided for their t."""
    own = np.diag(joint.common) + joint.own
    variances: np.ndarray = np.maximum(own[:, None] + own - 2 * joint.common, 0.0)
    return variances


def _positive(deviations: np.ndarray) -> np.ndarray:
    raised: np.ndarray = np.maximum(deviations, np.finfo(np.float32).tiny)
    return raised
