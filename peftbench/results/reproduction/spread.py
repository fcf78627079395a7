"""How far a statistic of a few runs scatters, in units of one run's standard deviation; normal runs assumed."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

#: What papers print of several seeds.
STATISTICS = ("mean", "median", "best")
#: An interquartile range of a normal distribution, in standard deviations.
IQR = 1.35
#: Quadrature: so many points over so many standard deviations on each side.
_POINTS, _REACH = 1201, 8.0


def quantile(probability: float, df: float) -> float:
    """Student's t quantile."""
    return float(special.stdtrit(df, probability))


def factor(statistic: str, n: int) -> float:
    """The standard deviation of a statistic of n standard normal values: the mean's is 1 / sqrt(n), the median's of
    five .536, the largest's of five .669."""
    if statistic == "mean" or n == 1:
        return 1 / math.sqrt(n)
    return _median(n) if statistic == "median" else _order(n, n)


def of(statistic: str, values: list[float]) -> float:
    """The statistic of values."""
    return float(along(statistic, np.array(values)))


def along(statistic: str, values: Any) -> Any:
    """The statistic of the values along the last axis."""
    functions: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median, "best": np.max}
    return functions[statistic](values, axis=-1)


def deviation(kind: str, values: Any) -> Any:
    """The standard deviation that a printed spread of the values along the last axis stands for: `std`, or `iqr`."""
    if kind == "std":
        return np.std(values, axis=-1, ddof=1)
    low, high = np.quantile(values, [0.25, 0.75], axis=-1)
    return (high - low) / IQR


@functools.cache
def _order(rank: int, n: int) -> float:
    """The standard deviation of the rank-th smallest of n standard normal values."""
    x, weight = _grid()
    below = special.ndtr(x)
    log = special.gammaln(n + 1) - special.gammaln(rank) - special.gammaln(n - rank + 1)
    density = np.exp(log + (rank - 1) * np.log(below) + (n - rank) * np.log1p(-below)) * weight
    mean = float((density * x).sum())
    return math.sqrt(float((density * (x - mean) ** 2).sum()))


@functools.cache
def _median(n: int) -> float:
    """The standard deviation of the median of n standard normal values."""
    if n % 2:
        return _order(n // 2 + 1, n)
    half = n // 2
    x, weight = _grid()
    below = special.ndtr(x)
    # The joint density of the two middle values, the smaller one along the first axis.
    log = special.gammaln(n + 1) - 2 * special.gammaln(half)
    lower, upper = np.log(below) * (half - 1), np.log1p(-below) * (half - 1)
    joint = np.triu(np.exp(log + lower[:, None] + upper[None, :]) * weight[:, None] * weight[None, :])
    joint[np.diag_indices_from(joint)] /= 2
    middle = (x[:, None] + x[None, :]) / 2
    return math.sqrt(float((joint * middle**2).sum() / joint.sum()))


@functools.cache
def _grid() -> tuple[np.ndarray, np.ndarray]:
    """Points, and the normal distribution's share at each."""
    x = np.linspace(-_REACH, _REACH, _POINTS)
    return x, np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
