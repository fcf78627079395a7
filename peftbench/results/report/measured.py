"""What runs measured, as one table of numbers: over any of the runs without a Python object a figure.

Of what a busy machine slows (`results.quality`), the medians are over the runs that it didn't slow.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from peftbench.results import quality
from peftbench.results.records import RunRecord
from peftbench.results.report import overfitting

#: The sections of a record that hold figures, which are named after them.
_SECTIONS = ("params", "efficiency")
#: The score on training data less the score.
GAP = "gap"


@dataclass(frozen=True)
class Medians:
    """Medians over runs, of sizes the largest, by name (`params.trainable`, `efficiency.train_time_s`, ...); None
    where no run has the figure. `busy`: by name, why one isn't to be compared: a busy machine slowed all the runs.
    """

    figures: dict[str, float | None] = field(default_factory=dict)
    busy: dict[str, str] = field(default_factory=dict)


class Measured:
    """The figures of runs: by name medians over any of them.

    Attributes:
        names: of all figures.
    """

    def __init__(self, records: Sequence[RunRecord]) -> None:
        kinds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
        for row, record in enumerate(records):
            kinds[tuple(tuple(getattr(record, section) or ()) for section in _SECTIONS)].append(row)
        blocks = [_block([records[row] for row in rows]) for rows in kinds.values()]
        self.names = list(dict.fromkeys(name for names, _ in blocks for name in names))
        places = {name: place for place, name in enumerate(self.names)}
        self._rows = {id(record): row for row, record in enumerate(records)}
        self._values = np.full((len(records), len(self.names)), np.nan)
        self._kinds = np.zeros(len(records), int)
        self._present = np.zeros((len(blocks), len(self.names)), bool)
        self._busy = {id(record): slowed for record in records if (slowed := quality.busy(record))}
        for kind, (rows, (names, values)) in enumerate(zip(kinds.values(), blocks, strict=True)):
            columns = [places[name] for name in names]
            self._values[np.ix_(rows, columns)] = values
            self._kinds[rows], self._present[kind, columns] = kind, True

    def of(self, records: Sequence[RunRecord]) -> Medians:
        """Medians over some of the runs."""
        figures, busy = self._over(records), {}
        slowed = {id(record): self._busy[id(record)] for record in records if id(record) in self._busy}
        among: dict[tuple[int, ...], dict[str, float | None]] = {}  # Figures mostly have their quiet runs in common.
        for name in sorted(set().union(*slowed.values())):
            figure = f"efficiency.{name}"
            quiet = [record for record in records if name not in slowed.get(id(record), ())]
            those = tuple(map(id, quiet))
            among[those] = among.get(those) or self._over(quiet)
            if among[those].get(figure) is not None:
                figures[figure] = among[those][figure]
            elif figures.get(figure) is not None:
                busy[figure] = _why(records, "inference" if name.startswith("inference") else "train")
        return Medians(figures, busy)

    def _over(self, records: Sequence[RunRecord]) -> dict[str, float | None]:
        if not records:
            return {}
        rows = np.array([self._rows[id(record)] for record in records], int)
        present = np.flatnonzero(self._present[np.unique(self._kinds[rows])].any(axis=0))
        values = np.sort(self._values[np.ix_(rows, present)], axis=0)  # What is missing comes last.
        counts = len(rows) - np.isnan(values).sum(axis=0)
        last, across = np.maximum(counts - 1, 0), np.arange(len(present))
        low, high = values[last // 2, across], values[np.maximum(counts // 2, 0).clip(max=len(rows) - 1), across]
        medians = np.where(counts % 2, low, (low + high) / 2)
        names = [self.names[place] for place in present]
        largest = np.array([_is_size(name) for name in names], bool)
        chosen = np.where(largest, values[last, across], medians).tolist()
        return {name: value if n else None for name, value, n in zip(names, chosen, counts.tolist(), strict=True)}


def _is_size(name: str) -> bool:
    """Says whether it is parameters or bytes. Each is exact in its run; between two sizes that were tuned lies none."""
    return name.startswith("params.") or "bytes" in name or "memory" in name


def _why(runs: Sequence[RunRecord], what: str) -> str:
    shares = [(record.efficiency or {}).get(f"{what}_cores_fraction") for record in runs]
    share = statistics.median(value for value in shares if value is not None)
    return f"measured while others used the machine: it had {100 * share:.0f} % of its cores"


def _block(records: Sequence[RunRecord]) -> tuple[list[str], np.ndarray]:
    """The figures of records that name the same ones: F names, and (n, F) numbers. A part of memory is no figure."""
    names, parts = [], []
    for section in _SECTIONS:
        sections: list[dict[str, Any]] = [getattr(record, section) or {} for record in records]
        plain = [name for name in sections[0] if not isinstance(sections[0][name], dict)]
        try:
            values = _numbers(sections, plain)
        except TypeError:  # What is null in the first record is a dictionary in another.
            plain = [name for name in plain if not any(isinstance(one[name], dict) for one in sections)]
            values = _numbers(sections, plain)
        names += [f"{section}.{name}" for name in plain]
        parts.append(values)
    return [*names, GAP], np.hstack([*parts, np.array([[overfitting.of_run(record)] for record in records], float)])


def _numbers(sections: Sequence[dict[str, Any]], names: Sequence[str]) -> np.ndarray:
    """(n, names) numbers of n sections; NaN for null."""
    take: Callable[[Any], Any] = itemgetter(*names) if len(names) > 1 else lambda one: [one[name] for name in names]
    return np.array([take(one) for one in sections], float).reshape(len(sections), len(names))
