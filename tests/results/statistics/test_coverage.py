"""What intervals and tie groups promise, on studies whose truth is known."""

import numpy as np
import pytest

from peftbench.results.statistics import intervals, joint, pairs
from tests.results.statistics.simulated import Study, equal_methods

#: By seeds, the coverage that is promised in a thousand repetitions.
PROMISED = {5: (0.92, 0.98), 3: (0.88, 0.985)}
METRICS = ("accuracy", "f1", "matthews", "pearson")


def _coverage(study: Study, repetitions: int) -> float:
    rng = np.random.default_rng(hash_of(study))
    truth = study.truth(rng)
    cells = [intervals.cell(study.scores(rng)) for _ in range(repetitions)]
    return float(np.mean([cell.low <= truth <= cell.high for cell in cells]))


def hash_of(study: Study) -> list[int]:
    """A seed that stays the same from one process to the next."""
    return [METRICS.index(study.metric), study.seeds, study.examples, round(100 * study.luck)]


@pytest.mark.slow
@pytest.mark.parametrize("luck", [0.05, 0.3])
@pytest.mark.parametrize("examples", [277, 872])
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover(metric: str, seeds: int, examples: int, luck: float) -> None:
    low, high = PROMISED[seeds]
    assert low <= _coverage(Study(metric, seeds, examples, luck), 1000) <= high


@pytest.mark.parametrize(("metric", "luck"), [("accuracy", 0.3), ("f1", 0.05)])
def test_intervals_cover_in_a_few_studies(metric: str, luck: float) -> None:
    """Of 200 intervals that hold 95 %, 90 % to 99 % do but for one time in a thousand."""
    assert 0.9 <= _coverage(Study(metric, 5, 277, luck), 200) <= 0.99


def test_seeds_alone_leave_out_the_examples() -> None:
    """The reason why the crossed interval is shown: with small luck, seeds alone cover far less."""
    study, rng = Study("accuracy", 5, 277, 0.05), np.random.default_rng(1)
    truth = study.truth(rng)
    cells = [intervals.by_seeds(study.scores(rng).mean(axis=1)) for _ in range(200)]
    assert np.mean([cell.low <= truth <= cell.high for cell in cells if cell is not None]) < 0.9


def _excluded(seeds: int, examples: int, luck: float, tables: int) -> float:
    """The share of tables of 12 equal methods in which one of them, fixed beforehand, is called worse than the best."""
    rng = np.random.default_rng([seeds, examples, round(100 * luck)])
    drawn = (joint.ties(joint.crossed(equal_methods(rng, 12, seeds, examples, luck))) for _ in range(tables))
    return float(np.mean([[not tied for tied in table] for table in drawn]))


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "examples", "luck"), [(3, 277, 0.05), (3, 872, 0.3), (5, 277, 0.3), (5, 872, 0.3)])
def test_a_truly_best_method_is_seldom_excluded(seeds: int, examples: int, luck: float) -> None:
    assert _excluded(seeds, examples, luck, 1000) <= 0.06


def test_a_truly_best_method_is_seldom_excluded_in_a_few_tables() -> None:
    assert _excluded(5, 277, 0.3, 40) <= 0.06


def test_a_method_whose_seeds_differ_more_is_as_uncertain_as_it_is() -> None:
    """Of twelve equal methods one has twenty times the others' luck: what is drawn of its lead holds the truth as often
    as it says, though of all pairs most are well known."""
    rng, held = np.random.default_rng(1), []
    for _ in range(300):
        examples = 0.8 + 0.35 * rng.normal(size=400)
        methods = [
            examples + luck * rng.normal(size=(3, 1)) + 0.15 * rng.normal(size=(3, 400)) + 0.1 * rng.normal(size=400)
            for luck in (0.06, *[0.003] * 11)
        ]
        made = joint.crossed(methods)
        errors = made.errors(1000)
        low, high = np.quantile(errors[:, 0] - errors[:, 1], [0.025, 0.975])
        held.append(low <= made.means[0] - made.means[1] <= high)
    assert np.mean(held) > 0.92


def test_a_worse_method_is_excluded() -> None:
    rng = np.random.default_rng(5)
    methods = equal_methods(rng, 3, 5, 872, 0.1)
    methods[1] = np.minimum(methods[1], rng.random(872) < 0.8)
    assert joint.ties(joint.crossed(methods)) == [True, False, True]


@pytest.mark.parametrize("seeds", [(5, 5), (3, 5)])
def test_differences_of_equal_methods_are_seldom_significant(seeds: tuple[int, int]) -> None:
    rng = np.random.default_rng(list(seeds))
    ps = []
    for _ in range(300):
        a, b = equal_methods(rng, 2, max(seeds), 277, 0.2)
        ps.append(pairs.difference(a[: seeds[0]], b[: seeds[1]]).p)
    assert np.mean(np.array(ps) < 0.05) <= 0.09
