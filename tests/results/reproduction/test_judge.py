"""Verdicts: what they are on the field's disputed rows, and how often they are wrong on simulated ones."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from peftbench.config.expected import ExpectedConfig
from peftbench.results.reproduction import equivalence, spread
from peftbench.results.reproduction.judge import STATUSES, floor, judge

ROW = ExpectedConfig(
    value=0.866,
    metric="accuracy",
    split="validation",
    statistic="median",
    seeds=5,
    spread=0.007,
    spread_kind="std",
    rounding=0.0005,
    selection="best_on_validation",
    base="FacebookAI/roberta-base",
    start="checkpoint",
    source="a paper, Table 2",
)


def row(**changes: Any) -> ExpectedConfig:
    return dataclasses.replace(ROW, **changes)


E2E = row(value=0.704, metric="bleu", statistic="mean", seeds=3, spread=0.001)
COLA = row(value=0.682, metric="matthews", spread=0.019)


def test_the_published_reruns_of_e2e_are_lower() -> None:
    verdict = judge(E2E, [0.6865, 0.6885, 0.6887])
    assert verdict.verdict == "lower"
    low, high = verdict.predicted  # type: ignore[misc]
    assert (high - low) / 2 == pytest.approx(0.0033, abs=0.0003)


def test_one_seed_within_the_papers_spread_is_compatible() -> None:
    verdict = judge(COLA, [0.628])
    assert verdict.verdict == "compatible"
    assert (verdict.basis, verdict.interval) == ("the paper's", None)


def test_runs_that_any_score_would_agree_with_get_no_verdict() -> None:
    """Two seeds of which one didn't learn: the prediction interval holds all that an accuracy can be."""
    printed = row(value=0.764, statistic="mean", seeds=2, spread=0.037)
    verdict = judge(printed, [0.767, 0.509], floor=floor(printed, 872))
    assert verdict.verdict == "no verdict"
    assert "every possible score would be compatible" in verdict.reasons[0]
    assert verdict.interval == (0.0, 1.0)
    correlated = row(value=0.2, statistic="mean", seeds=2, metric="pearson", spread=0.1)
    assert judge(correlated, [0.1, 0.25]).verdict == "compatible"
    assert judge(correlated, [-0.5, 0.9]).interval == (-1.0, 1.0)
    # Of a metric that isn't known here nothing is cut off.
    own = row(value=0.9, statistic="mean", seeds=2, metric="mine.cost", spread=0.1)
    low, high = judge(own, [2.0, 2.1]).interval  # type: ignore[misc]
    assert low < 2 < 2.1 < high


def test_bounds_are_scores_that_there_can_be() -> None:
    printed = row(value=0.96, statistic="mean", seeds=2, spread=0.02)
    verdict = judge(printed, [0.95, 0.99], floor=floor(printed, 872))
    assert verdict.predicted is not None
    assert verdict.interval is not None
    assert verdict.predicted[1] == verdict.interval[1] == 1.0
    assert 0 < verdict.predicted[0] < 0.96


def test_runs_without_the_papers_start_get_no_verdict() -> None:
    verdict = judge(ROW, [0.78] * 5, floor=floor(ROW, 277), reasons=["the paper starts from mnli"])
    assert (verdict.verdict, verdict.reasons) == ("no verdict", ["the paper starts from mnli"])
    assert verdict.value == 0.78


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"base": None}, "the base model"),
        ({"selection": None}, "the selection rule"),
        ({"statistic": None}, "the statistic"),
        ({"seeds": None}, "the number of seeds"),
        ({"start": None}, "the start"),
    ],
)
def test_what_the_paper_does_not_say_is_named(changes: dict[str, Any], says: str) -> None:
    verdict = judge(row(**changes), [0.866] * 5)
    assert verdict.verdict == "no verdict"
    assert verdict.reasons == [f"the paper doesn't say {says}"]


def test_without_any_spread_there_is_no_verdict() -> None:
    single = row(statistic="mean", seeds=1, spread=None, spread_kind=None)
    assert judge(single, [0.9]).reasons == ["one seed, and the paper prints no spread: two seeds at least"]
    assert judge(single, [0.9]).seeds_needed == 2
    assert judge(single, [0.866, 0.868]).verdict == "compatible"
    assert judge(single, []).reasons == ["no run is recorded"]


def test_a_single_published_number_is_met_within_ours() -> None:
    """y +- t(.975, 4) s sqrt(1 + 1/5) is 3.04 s."""
    single = row(statistic="mean", seeds=1, spread=None, spread_kind=None, rounding=0.0)
    values = [0.70, 0.71, 0.72, 0.73, 0.74]
    half = 3.041 * np.std(values, ddof=1)
    assert judge(dataclasses.replace(single, value=0.72 + 0.99 * half), values).verdict == "compatible"
    assert judge(dataclasses.replace(single, value=0.72 + 1.01 * half), values).verdict == "lower"
    assert judge(dataclasses.replace(single, value=0.72 - 1.01 * half), values).verdict == "higher"


def test_an_interquartile_range_is_no_standard_deviation() -> None:
    values = [0.70, 0.701, 0.702]
    std = judge(row(value=0.7, metric="matthews", spread=0.0135), values)
    iqr = judge(row(value=0.7, metric="matthews", spread=0.0135, spread_kind="iqr"), values)
    assert (std.deviation, iqr.deviation) == (0.0135, pytest.approx(0.01))


def test_the_largest_of_three_deviations_counts() -> None:
    values = [0.860, 0.8605, 0.861, 0.8615, 0.862]
    verdict = judge(ROW, values, floor=0.02)
    assert (verdict.deviation, verdict.basis, verdict.d) == (0.02, "the task's floor", 0.04)
    assert judge(ROW, values).basis == "the paper's"
    assert judge(ROW, [0.80, 0.84, 0.86, 0.88, 0.92]).basis == "ours"


def test_medians_meet_medians() -> None:
    values = [0.5, 0.86, 0.866, 0.868, 0.869]
    assert judge(ROW, values).value == 0.866
    assert judge(row(statistic="mean"), values).value == pytest.approx(0.7926)


def test_the_best_of_five_meets_the_best_of_five() -> None:
    best = row(statistic="best")
    assert judge(best, [0.86] * 4).seeds_needed == 5
    assert judge(best, [0.86, 0.861, 0.862, 0.863, 0.866]).verdict == "compatible"


def test_rounding_widens_the_interval() -> None:
    wide, narrow = (judge(row(rounding=r), [0.866] * 5).predicted for r in (0.005, 0.0))
    assert wide[1] - narrow[1] == pytest.approx(0.005)  # type: ignore[index]


def test_so_many_seeds_would_show_it() -> None:
    """The verdict at that number is `reproduced`, at one fewer it isn't, the spread staying the same."""
    near, allowed = row(value=0.86, statistic="mean", spread=0.02, rounding=0.0, d=0.025), None
    values = [0.86 + 0.0171 * step for step in (-1, 0, 1)]
    verdict = judge(near, values, floor=allowed)
    assert verdict.verdict == "compatible"
    assert verdict.seeds_needed is not None

    def with_seeds(n: int) -> str:
        spread_out = [0.86 + 0.01 * (-1) ** i for i in range(n - n % 2)] + [0.86] * (n % 2)
        return judge(near, spread_out, floor=allowed).verdict

    assert with_seeds(verdict.seeds_needed) == "reproduced"
    assert with_seeds(verdict.seeds_needed - 1) == "compatible"


def test_floors_are_those_of_accuracies() -> None:
    """The figures of arXiv 2304.01910's rule for GLUE's sets at the printed scores."""
    assert floor(row(value=0.78), 277) == pytest.approx(0.020, abs=0.0005)
    assert floor(row(value=0.95), 872) == pytest.approx(0.0054, abs=0.0002)
    assert floor(COLA, 1043) is None
    assert floor(ROW, None) is None


@pytest.mark.parametrize(("statistic", "n"), list(itertools.product(("mean", "median", "best"), (1, 2, 3, 4, 5, 10))))
def test_statistics_scatter_as_drawn_ones_do(statistic: str, n: int) -> None:
    draws = np.random.default_rng(0).normal(size=(100_000, n))
    drawn = {"mean": np.mean, "median": np.median, "best": np.max}[statistic](draws, axis=1).std()
    assert spread.factor(statistic, n) == pytest.approx(drawn, rel=0.01)


def _rates(
    *, cases: int, off: float, printed: bool, with_floor: bool, statistic: str, floors: float = 1.0
) -> dict[str, float]:
    """How often each verdict falls, 5 published and 5 own seeds, ours `off` floors below; `floors`: the deviation."""
    least = math.sqrt(0.1 / (2 * 500))
    sigma = floors * least
    random = np.random.default_rng(1)
    counts = dict.fromkeys(STATUSES, 0)
    for _ in range(cases):
        theirs, ours = 0.9 + sigma * random.normal(size=5), 0.9 + sigma * random.normal(size=5) - off * least
        expected = row(
            value=spread.of(statistic, list(theirs)),
            statistic=statistic,
            spread=float(theirs.std(ddof=1)) if printed else None,
            spread_kind="std" if printed else None,
            rounding=0.0,
            d=None if with_floor else 2 * least,
        )
        counts[judge(expected, list(map(float, ours)), floor=least if with_floor else None).verdict] += 1
    return {verdict: count / cases for verdict, count in counts.items()}


#: With printed deviations, with the floor, with both.
BASES = [(True, False), (False, True), (True, True)]


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize(("printed", "with_floor"), BASES)
@pytest.mark.parametrize("cases", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_verdicts_are_calibrated(cases: int, printed: bool, with_floor: bool, statistic: str) -> None:
    """A median of five scatters 1.2 times as much as a mean: `reproduced` above half of the time is harder there."""
    slack = 3 * math.sqrt(0.05 * 0.95 / cases) if cases < 10_000 else 0.0
    case: dict[str, Any] = {"cases": cases, "printed": printed, "with_floor": with_floor, "statistic": statistic}
    true, off_by_d, far = (_rates(off=off, **case) for off in (0, 2, 4))
    assert true["lower"] + true["higher"] <= 0.05 + slack
    assert true["reproduced"] > 0.5
    assert off_by_d["reproduced"] <= 0.05 + slack
    assert far["lower"] > 0.9
    assert far["higher"] == 0


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize(("printed", "with_floor"), BASES)
@pytest.mark.parametrize("floors", [0.7, 1.4, 2.0])
def test_rows_off_by_d_are_not_reproduced_whatever_the_deviation_is(
    floors: float, printed: bool, with_floor: bool, statistic: str
) -> None:
    rates = _rates(cases=2_000, off=2, printed=printed, with_floor=with_floor, statistic=statistic, floors=floors)
    assert rates["reproduced"] <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2_000)


def test_an_exact_estimate_takes_students_quantile() -> None:
    """Means with one estimated deviation and no floor: that is Student's test, at the level that is simulated."""
    for theirs, ours, df in ((1, 5, 4), (1, 20, 19)):
        made = equivalence.factor(equivalence.Design("mean", theirs, ours, None))
        assert made == pytest.approx(spread.quantile(0.955, df), rel=0.03)


def test_a_floor_and_more_seeds_need_less() -> None:
    design = equivalence.Design("median", 5, 5, None)
    floored = dataclasses.replace(design, floor=0.5)
    assert 1.5 < equivalence.factor(floored) < equivalence.factor(design) < spread.quantile(0.955, 4)
    assert equivalence.factor(dataclasses.replace(design, ours=20)) < equivalence.factor(design)
