"""How sure the scores of one row are, and which of several rows can be told from the best.

What reports and `advise` say of the same records is the same, since both ask here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.statistics import answers, bounds, intervals, joint
from peftbench.results.statistics.intervals import Basis, Interval
from peftbench.results.statistics.joint import Joint

#: Metrics that are a share of the examples, so that a score and their number are all that its interval needs.
_SHARES = ("accuracy", "exact_match")
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
        examples: (S, N) of their examples, where the predictions are there.
        units: what tells which examples these are; equal where they are the same.
    """

    scores: np.ndarray
    examples: np.ndarray | None
    units: bytes


@dataclass(frozen=True)
class ComparableScores:
    """The rows of several that can be compared in one way.

    Attributes:
        places: of each its place among all rows, the best first.
        arrays: of each (S, N) scores of examples, or (S,) of seeds, as the basis says.
    """

    places: list[int]
    basis: Basis
    arrays: list[np.ndarray]
    joint: Joint


def _order(record: RunRecord) -> tuple[int, str]:
    return int(record.config["seed"]), record.key


def scores_of(records: Sequence[RunRecord], roots: Mapping[int, Path]) -> CellScores:
    """The scores of runs.

    Args:
        roots: by a record's `id` the results folder that it lies in; of others no predictions are read.
    """
    runs = []
    records = sorted(records, key=_order)
    for record in records:
        root = roots.get(id(record))
        file = None if root is None else answers.file(root, record)
        run = None if file is None else answers.pseudo_values(record, file)
        runs.append(run)
        if run is None:
            break  # The others' wouldn't be used.
    first = runs[0]
    examples = answers.matrix(runs) if len(runs) == len(records) else None
    scores = np.array([record.score for record in records], float)
    return CellScores(scores, examples, first.units.tobytes() if examples is not None and first is not None else b"")


def interval(scored: CellScores, records: Sequence[RunRecord]) -> Interval | None:
    """The interval over seeds and examples; else over seeds alone; of one seed without predictions Wilson's, if its
    score is a share. It stays within what its metrics can be."""
    made = intervals.cell(scored.examples) if scored.examples is not None else intervals.by_seeds(scored.scores)
    metrics = records[0].config["dataset"].get("metrics") or {}
    if made is None:
        return _of_share(scored, records)
    low, high = bounds.within((made.low, made.high), metrics)
    return replace(made, low=low, high=high)


def _of_share(scored: CellScores, records: Sequence[RunRecord]) -> Interval | None:
    """One seed's interval from its accuracy and the number of its examples; None: the score is no share of these."""
    split = records[0].metrics.get((records[0].config["dataset"].get("evaluation") or [""])[0]) or {}
    n, values = split.get("n"), split.get("values") or {}
    score = float(scored.scores[0])
    if not isinstance(n, int) or n < 1 or list(values)[1:] or next(iter(values), None) not in _SHARES:
        return None
    if not 0 <= score <= 1:
        return None
    low, high = intervals.wilson(score * n, n)
    se = float(np.sqrt(score * (1 - score) / n))
    return Interval(score, low, high, se, np.inf, 1, n, Basis.EXAMPLES)


def compare(rows: Sequence[CellScores]) -> ComparableScores | None:
    """The comparison of all rows that can be compared in one way; None where there are less than two of them."""
    units = Counter(row.units for row in rows if row.examples is not None)
    common = units.most_common(1)[0][0] if units else None
    crossed = [place for place, row in enumerate(rows) if row.examples is not None and row.units == common]
    seeded = [place for place, row in enumerate(rows) if len(row.scores) > 1]
    basis, chosen = (Basis.CROSSED, crossed) if len(crossed) >= len(seeded) else (Basis.SEEDS, seeded)
    if not 2 <= len(chosen) <= _COMPARED:
        return None
    chosen.sort(key=lambda place: -float(rows[place].scores.mean()))
    if basis is Basis.SEEDS:
        arrays = [rows[place].scores for place in chosen]
        return ComparableScores(chosen, basis, arrays, joint.by_seeds(arrays))
    arrays = [table for place in chosen if (table := rows[place].examples) is not None]
    basis = Basis.CROSSED if min(map(len, arrays)) > 1 else Basis.EXAMPLES
    return ComparableScores(chosen, basis, arrays, joint.crossed(arrays))


def ties(rows: Sequence[CellScores]) -> list[bool | None]:
    """Tests rows (Hsu's): for each, true if it can't be told from the best; None: it isn't compared."""
    found, tied = compare(rows), dict[int, bool]()
    if found is not None:
        tied = dict(zip(found.places, joint.ties(found.joint), strict=True))
    return [tied.get(place) for place in range(len(rows))]
