"""How sure the scores of one row are, and which of several rows can be told from the best.

What reports and `advise` say of the same records is the same, since both ask here.
"""

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.statistics import answers, bounds, intervals, joint, kept
from peftbench.results.statistics.intervals import Basis, Interval, VarianceComponents
from peftbench.results.statistics.joint import Joint
from peftbench.results.statistics.kept import KeptScores

#: Rows above which nobody compares them.
_COMPARED = 300


@dataclass(frozen=True)
class Sure:
    """The certainty of a cell's score.

    Attributes:
        interval: of other seeds and examples, where the predictions are there; else what `basis` says.
        same_examples: of other seeds on these very examples.
        tied: whether it can't be told from the best of its panel; None: it isn't compared.
    """

    interval: Interval | None
    same_examples: Interval | None
    tied: bool | None = None


@dataclass(frozen=True)
class CellScores:
    """The scores of runs that differ in their seed.

    Attributes:
        scores: (S,) of the runs, by seed.
        runs: of each, the scores by example; None where one has none, or they aren't of the same examples.
    """

    scores: np.ndarray
    runs: list[KeptScores] | None

    @property
    def units(self) -> str | None:
        """The name of these examples, equal where they are the same; None: they aren't known."""
        return None if self.runs is None else self.runs[0].units

    @property
    def examples(self) -> np.ndarray | None:
        """(S, N) scores by example, made when asked for: of all cells of a large folder they would fill the memory."""
        return None if self.runs is None else np.stack([run.values for run in self.runs])

    @property
    def varying(self) -> VarianceComponents | None:
        """The parts of the variance of their mean over seeds and examples. Of several seeds they are kept; of one they
        are as large as its scores, and made when asked for."""
        return self._parts if len(self.scores) > 1 else self._made()

    @functools.cached_property
    def _parts(self) -> VarianceComponents | None:
        return self._made()

    def _made(self) -> VarianceComponents | None:
        return None if (examples := self.examples) is None else intervals.parts(examples)


@dataclass(frozen=True)
class ComparableScores:
    """The rows of several that can be compared in one way.

    Attributes:
        places: of each its place among all rows, the best first; `rows`: their scores.
    """

    places: list[int]
    rows: list[CellScores]
    basis: Basis
    joint: Joint


def _order(record: RunRecord) -> tuple[int, str]:
    return int(record.config["seed"]), record.key


def scores_of(records: Sequence[RunRecord], roots: Mapping[int, Path]) -> CellScores:
    """The scores of runs: by example as their records carry them, or else from their predictions.

    Args:
        roots: by a record's `id` the results folder that it lies in; of others no predictions are read.
    """
    records = sorted(records, key=_order)
    scores = np.array([record.score for record in records], float)
    runs: list[KeptScores] = []
    for record in records:
        run = kept.recorded(record) or _predicted(record, roots.get(id(record)))
        if run is None or (runs and run.units != runs[0].units):
            return CellScores(scores, None)
        runs.append(run)
    return CellScores(scores, runs)


def _predicted(record: RunRecord, root: Path | None) -> KeptScores | None:
    file = None if root is None else answers.file(root, record)
    examples = None if file is None else answers.pseudo_values(record, file)
    return None if examples is None else kept.keep(examples)


def interval(scored: CellScores, records: Sequence[RunRecord]) -> Interval | None:
    """The interval over seeds and examples; else over seeds alone; of one seed without predictions Wilson's, if its
    score is a share. It stays within what its metrics can be."""
    varying = scored.varying
    made = intervals.by_seeds(scored.scores) if varying is None else intervals.of_parts(varying)
    metrics = records[0].config["dataset"].get("metrics") or {}
    if made is None:
        return _of_share(scored, records)
    low, high = bounds.within((made.low, made.high), metrics)
    return replace(made, low=low, high=high)


def _of_share(scored: CellScores, records: Sequence[RunRecord]) -> Interval | None:
    """One seed's interval from its accuracy and the number of its examples; None: the score is no share of these."""
    split = records[0].scored_split or {}
    n, values = split.get("n"), split.get("values") or {}
    score = float(scored.scores[0])
    if not isinstance(n, int) or n < 1 or list(values)[1:] or next(iter(values), None) not in kept.SHARES:
        return None
    if not 0 <= score <= 1:
        return None
    low, high = intervals.wilson(score * n, n)
    se = float(np.sqrt(score * (1 - score) / n))
    return Interval(score, low, high, se, np.inf, 1, n, Basis.EXAMPLES)


def compare(rows: Sequence[CellScores]) -> ComparableScores | None:
    """The comparison of all rows that can be compared in one way; None where there are less than two of them."""
    units = Counter(row.units for row in rows if row.units is not None)
    common = units.most_common(1)[0][0] if units else None
    crossed = [place for place, row in enumerate(rows) if row.units is not None and row.units == common]
    seeded = [place for place, row in enumerate(rows) if len(row.scores) > 1]
    basis, chosen = (Basis.CROSSED, crossed) if len(crossed) >= len(seeded) else (Basis.SEEDS, seeded)
    if not 2 <= len(chosen) <= _COMPARED:
        return None
    chosen.sort(key=lambda place: -float(rows[place].scores.mean()))
    best_first = [rows[place] for place in chosen]
    if basis is Basis.SEEDS:
        return ComparableScores(chosen, best_first, basis, joint.by_seeds([row.scores for row in best_first]))
    varying = [parts for row in best_first if (parts := row.varying) is not None]
    basis = Basis.CROSSED if min(parts.seeds for parts in varying) > 1 else Basis.EXAMPLES
    return ComparableScores(chosen, best_first, basis, joint.of_parts(varying))


def ties(rows: Sequence[CellScores]) -> list[bool | None]:
    """Tests rows (Hsu's): for each, true if it can't be told from the best; None: it isn't compared."""
    found, tied = compare(rows), dict[int, bool]()
    if found is not None:
        tied = dict(zip(found.places, joint.ties(found.joint), strict=True))
    return [tied.get(place) for place in range(len(rows))]
