"""The formulas, worked out by hand."""

import math

import numpy as np
import pytest

from peftbench.results.statistics import intervals, joint, pairs
from tests.results.statistics.simulated import equal_methods

#: Three seeds on four examples.
X = np.array([[1.0, 0, 1, 1], [1, 1, 1, 0], [1, 0, 1, 1]])
Y = np.array([[0.0, 0, 1, 1], [1, 0, 0, 0]])


def _by_hand(x: np.ndarray) -> tuple[float, float, float]:
    seeds, examples = len(x), len(x[0])
    rows = [sum(row) / examples for row in x.tolist()]
    columns = [sum(x[s][e] for s in range(seeds)) / seeds for e in range(examples)]
    mean = sum(rows) / seeds
    v1 = sum((r - mean) ** 2 for r in rows) / (seeds - 1) / seeds
    v2 = sum((c - mean) ** 2 for c in columns) / (examples - 1) / examples
    rest = sum((x[s][e] - rows[s] - columns[e] + mean) ** 2 for s in range(seeds) for e in range(examples))
    return v1, v2, rest / ((seeds - 1) * (examples - 1)) / (seeds * examples)


def _t_by_hand(df: float) -> float:
    """Student's .975 quantile by Gauss's rule and bisection: to 14 digits, as Simpson's isn't."""
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)

    points, weights = np.polynomial.legendre.leggauss(200)

    def inner(x: float) -> float:
        heights = scale * (1 + (x * (points + 1) / 2) ** 2 / df) ** (-(df + 1) / 2)
        return math.fsum((weights * heights).tolist()) * x / 2

    low, high = 0.0, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if inner(middle) < 0.475 else (low, middle)
    return low


def test_a_cell_by_hand() -> None:
    v1, v2, v3 = _by_hand(X)
    variance = max(v1 + v2 - v3, v1, v2)
    df = variance**2 / (v1**2 / 2 + v2**2 / 3 + v3**2 / 6)
    half = _t_by_hand(df) * math.sqrt(variance)
    cell = intervals.cell(X)
    assert (cell.mean, cell.se, cell.df) == pytest.approx((0.75, math.sqrt(variance), df), abs=1e-12)
    assert (cell.low, cell.high) == pytest.approx((0.75 - half, 0.75 + half), abs=1e-12)
    assert (cell.seeds, cell.examples, cell.basis, cell.few_seeds) == (3, 4, "seeds and examples", True)


def test_a_table_by_hand_agrees_to_twelve_digits() -> None:
    methods = equal_methods(np.random.default_rng(0), 4, 3, 50, 0.3)
    made = joint.crossed(methods)
    for k, x in enumerate(methods):
        v1, v2, v3 = _by_hand(x)
        variance = max(v1 + v2 - v3, v1, v2)
        df = variance**2 / (v1**2 / 2 + v2**2 / 49 + v3**2 / 98)
        cell = intervals.cell(x)
        assert abs(cell.se - math.sqrt(variance)) < 1e-12
        assert abs(cell.df / df - 1) < 1e-12
        assert abs(cell.mean - x.sum() / 150) < 1e-12
        half = _t_by_hand(df) * math.sqrt(variance)
        assert (cell.low, cell.high) == pytest.approx((x.sum() / 150 - half, x.sum() / 150 + half), abs=1e-12)
        for j in range(k):
            a, b = _by_hand(methods[j]), _by_hand(x)
            apart = (methods[j].sum(axis=0) - x.sum(axis=0)) / 3
            v2 = ((apart - apart.sum() / 50) ** 2).sum() / 49 / 50
            variance = max(a[0] + b[0] + v2 - a[2] - b[2], v2, a[0] + b[0])
            found = pairs.difference(methods[j], x)
            assert abs(found.se - math.sqrt(variance)) < 1e-12
            assert abs(made.se[j, k] - math.sqrt(variance)) < 1e-12
            terms = v2**2 / 49 + (a[0] ** 2 + b[0] ** 2) / 2 + (a[2] ** 2 + b[2] ** 2) / 98
            assert abs(found.df / (variance**2 / terms) - 1) < 1e-12
            mean = (methods[j].sum() - x.sum()) / 150
            half = _t_by_hand(variance**2 / terms) * math.sqrt(variance)
            assert (found.low, found.high) == pytest.approx((mean - half, mean + half), abs=1e-12)


def test_the_order_of_seeds_and_examples_is_irrelevant() -> None:
    a, b = equal_methods(np.random.default_rng(2), 2, 4, 30, 0.3)
    other = pairs.difference(a[[2, 0, 3, 1]][:, ::-1], b[:, ::-1])
    assert (other.mean, other.se, other.p) == pytest.approx(
        [getattr(pairs.difference(a, b), k) for k in ("mean", "se", "p")]
    )


def test_one_seed_is_of_the_examples_alone() -> None:
    cell = intervals.cell(np.array([[1.0] * 81 + [0] * 182]))
    # Newcombe 1998 (857), table I: 81 of 263, method 3.
    assert (cell.low, cell.high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert cell.basis == "examples of one seed"
    assert intervals.by_seeds(np.array([0.5])) is None


def test_all_right_is_not_certain() -> None:
    assert intervals.cell(np.ones((5, 100))).low == pytest.approx(0.963, abs=1e-3)


def test_two_methods_of_one_seed_are_compared_by_mcnemar_and_newcombe() -> None:
    # Newcombe 1998 (2635), table II, method 10: 36, 12, 2, 0 of 50.
    a = np.array([1.0] * 36 + [1] * 12 + [0] * 2)
    b = np.array([1.0] * 36 + [0] * 12 + [1] * 2)
    found = pairs.difference(a[None], b[None])
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert found.p == pytest.approx(2 * sum(math.comb(14, k) for k in range(3)) / 2**14)
    assert found.test.startswith("McNemar")


def test_holm() -> None:
    assert pairs.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pairs.holm([]) == []


def test_what_it_would_take_separates_most_of_the_time() -> None:
    rng = np.random.default_rng(9)

    def study(seeds: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
        a, b = equal_methods(rng, 2, seeds, examples, 0.0)
        return a, np.minimum(b, rng.random(examples) < 0.96)

    count = pairs.needed(*study(3, 40_000)).examples  # So many that the difference and its variance are known.
    assert count is not None
    assert 0.65 < np.mean([pairs.difference(*study(3, count)).p < 0.05 for _ in range(100)]) < 0.95
    assert np.mean([pairs.difference(*study(3, count // 4)).p < 0.05 for _ in range(100)]) < 0.5


def test_what_no_seeds_would_separate() -> None:
    a = np.tile(np.array([1.0, 0] * 10), (3, 1))
    b = np.tile(np.array([0.0, 1] * 9 + [1, 0]), (3, 1))
    assert pairs.needed(a, b).seeds is None
    assert pairs.needed(a, a) == pairs.Needed(None, None)


def test_draws_are_the_same_for_the_same_scores() -> None:
    methods = equal_methods(np.random.default_rng(4), 3, 3, 40, 0.2)
    assert np.array_equal(joint.crossed(methods).errors(), joint.crossed(methods).errors())
    assert not np.array_equal(joint.crossed(methods).errors(), joint.crossed(methods).errors(salt="1"))


@pytest.mark.parametrize("seeds", [(3, 5, 1, 4), (1, 1, 1, 1), (2, 2, 2, 2)])
def test_all_differences_at_once_are_each_by_itself(seeds: tuple[int, ...]) -> None:
    rng = np.random.default_rng(9)
    methods = [one[:n] for one, n in zip(equal_methods(rng, 4, 5, 80, 0.3), seeds, strict=True)]
    methods = [method + 0.1 for method in methods]  # No right or wrong, for which there is McNemar's test.
    methods.append(methods[0])
    found = pairs.differences(joint.crossed(methods), [*seeds, seeds[0]])
    assert len(found) == 10
    for (j, k), one in found.items():
        other = pairs.difference(methods[j], methods[k])
        for name in ("mean", "low", "high", "se", "p"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-12), (j, k, name)
        assert one.df == pytest.approx(other.df, rel=1e-9)
        assert (one.basis, one.test) == (other.basis, other.test)


def test_the_chance_to_be_better_is_what_the_difference_says() -> None:
    """Each pair by its own degrees of freedom, also beside methods that are far better known."""
    methods = equal_methods(np.random.default_rng(8), 3, 5, 400, 0.0)
    methods[0] = np.clip(methods[0] + np.array([[-0.2], [0.3], [-0.1], [0.2], [0.1]]), -1, 2)
    chances = joint.better(joint.crossed(methods))
    for j, k in [(0, 1), (0, 2)]:
        apart = pairs.difference(methods[j], methods[k])
        assert apart.df < 10
        assert 2 * min(chances[j, k], chances[k, j]) == pytest.approx(apart.p, abs=0.01)


def test_ranks_and_the_share_of_the_way() -> None:
    rng = np.random.default_rng(6)
    base = equal_methods(rng, 1, 5, 400, 0.05)[0]
    methods = [base, np.minimum(base, rng.random(400) < 0.5), np.minimum(base, rng.random(400) < 0.85)]
    made = joint.crossed(methods)
    placed = joint.ranks([made])
    assert placed.low.tolist()[1] == placed.high.tolist()[1] == 3
    assert (placed.low[0], placed.high[0]) == (1, 1)
    assert placed.best.sum() == pytest.approx(1)
    chances = joint.better(made)
    assert chances[0, 1] > 0.999
    assert chances + chances.T == pytest.approx(np.ones((3, 3)))
    drawn = made.means + made.errors()
    assert chances[2, 0] == pytest.approx((drawn[:, 2] > drawn[:, 0]).mean(), abs=0.02)
    assert joint.improvement([chances, chances.T])[2, 0] == pytest.approx(0.5)
    shares = joint.way(made, 1, 0)
    assert shares is not None
    assert shares[:2] == [None, None]
    assert shares[2] is not None
    assert shares[2].low < shares[2].share < shares[2].high
    assert joint.way(joint.crossed([base, base]), 0, 1) is None


def test_seeds_alone_give_ties_too() -> None:
    made = joint.by_seeds([np.array([0.9, 0.91, 0.92]), np.array([0.905, 0.915, 0.9]), np.array([0.5, 0.51, 0.52])])
    assert joint.ties(made) == [True, True, False]
    assert pairs.by_seeds(np.array([0.9, 0.91]), np.array([0.5])) is None
