"""Judges a re-run against a published figure: equivalence first (TOST, `equivalence`), then the prediction interval of
our statistic (Spence & Stanley 2016, doi 10.1371/journal.pone.0162874)."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from peftbench.config.expected import ExpectedConfig
from peftbench.results.reproduction import equivalence, spread
from peftbench.results.statistics import bounds

#: Verdicts, and the exit status of `reproduce` for each.
STATUSES = {"reproduced": 0, "compatible": 0, "lower": 1, "higher": 1, "no verdict": 3}
#: The floor times this is d, where the row has none of its own.
_FLOORS = 2
#: Seeds beyond which nobody is asked to go.
_MOST = 100

#: Why nothing is said of runs that no score would contradict.
_ANY = "these runs differ so much that every possible score would be compatible: more seeds"

Bounds = tuple[float, float]

#: Fields without which nothing is judged, and how they are called.
_REQUIRED = {
    "base": "the base model",
    "metric": "the metric",
    "split": "the split",
    "selection": "the selection rule",
    "statistic": "the statistic",
    "seeds": "the number of seeds",
    "start": "the start",
}


@dataclass(frozen=True)
class Verdict:
    """A verdict with what decides it. Scores are fractions.

    Attributes:
        verdict: one of `STATUSES`.
        value: our statistic; None without runs.
        interval: of our statistic over seeds, 95 %; None from one seed.
        predicted: where our statistic falls in 95 % of true re-runs.
        d, smallest_d: the difference that counts as the same, and the smallest that these runs could have shown.
        deviation, basis: the standard deviation of one run that was used, and whose it is.
        reasons: why there is no verdict.
        exact: every score is that of the record, to the last bit.
        seeds_needed: how many seeds of ours equivalence would take at this distance; None: no number would do.
    """

    verdict: str
    seeds: int
    value: float | None = None
    interval: Bounds | None = None
    predicted: Bounds | None = None
    d: float | None = None
    smallest_d: float | None = None
    deviation: float | None = None
    basis: str | None = None
    reasons: list[str] = field(default_factory=list)
    seeds_needed: int | None = None
    exact: bool = False

    @property
    def status(self) -> int:
        return STATUSES[self.verdict]


def floor(expected: ExpectedConfig, rows: int | None) -> float | None:
    """The standard deviation between runs that a share of right answers can't well be below, sqrt(error / (2 rows))
    (arXiv 2304.01910); None for other metrics: Matthews, correlations, F1, ROUGE, BLEU."""
    if expected.metric not in ("accuracy", "exact_match") or not rows:
        return None
    return math.sqrt(max(1 - expected.value, 0) / (2 * rows))


def unknown(expected: ExpectedConfig) -> list[str]:
    """The facts that the paper doesn't say and a verdict needs."""
    missing = [words for name, words in _REQUIRED.items() if getattr(expected, name) is None]
    return [f"the paper doesn't say {words}" for words in missing]


def judge(
    expected: ExpectedConfig, values: Sequence[float], *, floor: float | None = None, reasons: Sequence[str] = ()
) -> Verdict:
    """The verdict on runs of one protocol.

    Args:
        values: one score a seed, on the paper's split and by its metric.
        floor: of the task (`floor`).
        reasons: why these runs can't be judged, of the caller's.
    """
    n = len(values)
    if expected.statistic is None or expected.seeds is None:
        return Verdict("no verdict", n, reasons=[*unknown(expected), *reasons])
    value = spread.of(expected.statistic, list(values)) if values else None
    interval = _interval(expected, values)
    scale = _deviation(expected, values, floor)
    reasons = [*unknown(expected), *reasons, *_too_few(expected, n, scale)]
    if reasons or value is None or scale is None:
        return Verdict("no verdict", n, value, interval, reasons=reasons, seeds_needed=_for_any(expected, n))
    deviation, df, basis = scale
    error = deviation * math.hypot(spread.factor(expected.statistic, expected.seeds), _ours(expected.statistic, n))
    distance = abs(value - expected.value)
    half = spread.quantile(0.975, df) * error + expected.rounding
    d = expected.d or (None if floor is None else _FLOORS * floor)
    smallest = distance + equivalence.factor(_design(expected, n, floor, d)) * error + expected.rounding
    same = d is not None and smallest <= d
    predicted = bounds.within((expected.value - half, expected.value + half), _metrics(expected))
    needed = None if same or d is None else _seeds(expected, n, (deviation, floor, d), distance)
    if not same and predicted == bounds.of(_metrics(expected)):
        return Verdict("no verdict", n, value, interval, reasons=[_ANY])
    verdict = "reproduced" if same else _by_interval(value - expected.value, half)
    return Verdict(verdict, n, value, interval, predicted, d, smallest, deviation, basis, seeds_needed=needed)


def _metrics(expected: ExpectedConfig) -> list[str]:
    """The metrics that a printed figure is the mean of."""
    return [] if expected.metric is None else expected.metric.split("+")


def _by_interval(difference: float, half: float) -> str:
    if abs(difference) <= half:
        return "compatible"
    return "lower" if difference < 0 else "higher"


def _ours(statistic: str, n: int) -> float:
    return spread.factor(statistic, n)


def _interval(expected: ExpectedConfig, values: Sequence[float]) -> Bounds | None:
    """A 95 % interval of a mean or median over seeds, on these very examples."""
    n, statistic = len(values), expected.statistic
    if n < 2 or statistic in ("best", None):
        return None
    value = spread.of(str(statistic), list(values))
    half = spread.quantile(0.975, n - 1) * statistics.stdev(values) * spread.factor(str(statistic), n)
    return bounds.within((value - half, value + half), _metrics(expected))


def _deviation(
    expected: ExpectedConfig, values: Sequence[float], floor: float | None
) -> tuple[float, float, str] | None:
    """The standard deviation of one run, its degrees of freedom, and whose it is: the largest of the printed one, ours
    and the floor. None: none is known, or the floor alone."""
    n, k = len(values), expected.seeds or 1
    deviations = {}
    df = 0
    if expected.spread is not None and expected.spread_kind is not None and k > 1:
        deviations["the paper's"] = expected.spread / (spread.IQR if expected.spread_kind == "iqr" else 1)
        df += k - 1
    if n > 1:
        deviations["ours"] = statistics.stdev(values)
        df += n - 1
    if not deviations:
        return None
    if floor is not None:
        deviations["the task's floor"] = floor
    basis = max(deviations, key=lambda name: deviations[name])
    return deviations[basis], df, basis


def _too_few(expected: ExpectedConfig, n: int, scale: object) -> list[str]:
    if n == 0:
        return ["no run is recorded"]
    if expected.statistic == "best" and n != expected.seeds:
        return [f"the best of {expected.seeds} runs compares with the best of as many, here are {n}"]
    if scale is None:
        return ["one seed, and the paper prints no spread: two seeds at least"]
    return []


def _for_any(expected: ExpectedConfig, n: int) -> int | None:
    """Seeds that any verdict needs, where there are fewer."""
    most = expected.seeds if expected.statistic == "best" else 1 if expected.spread is not None else 2
    return most if most is not None and n < most else None


def _design(expected: ExpectedConfig, n: int, floor: float | None, d: float | None) -> equivalence.Design:
    printed = None if expected.spread is None else expected.spread_kind
    least = floor / d if floor is not None and d else 0.0
    return equivalence.Design(str(expected.statistic), expected.seeds or 1, n, printed, least)


def _seeds(expected: ExpectedConfig, n: int, scale: tuple[float, float | None, float], distance: float) -> int | None:
    """The seeds with which equivalence would be shown, everything else being the same.

    Args:
        scale: the deviation of one run, the floor and d.
    """
    deviation, floor, d = scale
    if expected.statistic == "best" or expected.statistic is None or expected.seeds is None:
        return None
    theirs = spread.factor(expected.statistic, expected.seeds)

    def enough(seeds: int) -> bool:
        error = deviation * math.hypot(theirs, spread.factor(str(expected.statistic), seeds))
        factor = equivalence.factor(_design(expected, seeds, floor, d))
        return factor * error <= d - distance - expected.rounding

    if n >= _MOST or not enough(_MOST):
        return None
    few, many = n, _MOST
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many
