"""Budgets of memory: how they are written, and the largest micro batch that keeps within one."""

import re
from collections.abc import Mapping

from peftbench.errors import ConfigError

_UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def bytes_of(key: str, written: str) -> int:
    """Bytes that a text such as 8GB or 7.5GiB says. Raises ConfigError, which names the key."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([a-zA-Z]+)", written)
    units = {unit.lower(): size for unit, size in _UNITS.items()}
    if match is None or match[2].lower() not in units or float(match[1]) <= 0:
        raise ConfigError(
            f"{key}={written}: allowed is a number above 0 with a unit ({', '.join(_UNITS)}), such as 8GB"
        )
    return int(float(match[1]) * units[match[2].lower()])


def in_words(size: float) -> str:
    """Bytes as a person reads them."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size / factor:,.0f} {unit}"
    return f"{size / 1e3:.0f} kB"


def largest(peaks: Mapping[int, float], budget: float, most: int) -> int | None:
    """The largest micro batch, up to `most`, whose peak keeps within a budget; None: not even one example does.

    A peak is a constant and a share of each example: two micro batches tell both.

    Args:
        peaks: bytes by micro batch, of two at least unless `most` is 1.
    """
    small, large = min(peaks), max(peaks)
    each = (peaks[large] - peaks[small]) / (large - small) if large > small else peaks[large] / large
    constant = peaks[small] - each * small
    if each <= 0:
        return most if peaks[large] <= budget else None
    fitting = int((budget - constant) // each)
    return min(most, fitting) if fitting >= 1 else None
