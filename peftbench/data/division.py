"""One file of examples divided into those to train on and those to evaluate, by classes and a seed."""

from collections.abc import Hashable, Sequence

import numpy as np

#: The share that is evaluated, and the seed, where the configuration says neither.
HOLDOUT, SEED = 0.2, 0


def held_out(
    classes: Sequence[Hashable], units: Sequence[Hashable] | None = None, *, share: float, seed: int
) -> np.ndarray:
    """(rows,) True for the rows that are evaluated: of every class about `share` of its rows, and of a class with two
    units or more at least one on either side.

    Args:
        classes: the class of each row; all equal where there are none.
        units: what each row belongs to, which stays on one side; None: each row is alone. A unit counts as of its
            first row's class.
        share: of the rows, between 0 and 1.
        seed: the same rows, in the same order, are divided alike by the same seed.
    """
    numbers = _numbered(range(len(classes)) if units is None else units)
    firsts = np.unique(numbers, return_index=True)[1]
    kinds, sizes = _numbered(classes)[firsts], np.bincount(numbers)
    drawn = np.random.default_rng(seed).permutation(len(firsts))
    chosen = np.zeros(len(firsts), dtype=bool)
    for kind in np.unique(kinds):
        members = drawn[kinds[drawn] == kind]
        before = np.cumsum(sizes[members]) - sizes[members]
        taken = before + sizes[members] / 2 <= share * sizes[members].sum()
        if len(members) > 1:  # Either side has one: the first of the drawn order, and the last.
            taken[0], taken[-1] = True, False
        chosen[members[taken]] = True
    return chosen[numbers]


def _numbered(values: Sequence[Hashable]) -> np.ndarray:
    """(values,) equal numbers for equal values, in the order of their first appearance."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return np.array([numbers[value] for value in values], dtype=np.int64)
