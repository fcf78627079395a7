"""How sure a leaderboard's scores are: intervals, who can be told from the best, pairs, ranks over data sets.

Rows are compared on one data set and one model, and only if they were made under the same conditions (`conditions`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.report import certainty, conditions
from peftbench.results.report.certainty import CellScores, ComparableScores, Sure
from peftbench.results.report.suites import RowName
from peftbench.results.statistics import intervals, joint, pairs
from peftbench.results.statistics.intervals import Basis
from peftbench.results.statistics.joint import Joint, Share
from peftbench.results.statistics.pairs import Difference, Needed

#: A row on a data set.
CellName = tuple[RowName, str]
#: Rows of a panel, above which nobody reads its pairs.
_PAIRED = 60
#: Where the way to full fine-tuning starts and ends.
_START, _END = "linear_probe", "full"
_ALPHA = 0.05


@dataclass(frozen=True)
class Pair:
    """Two rows on one data set. `p_holm`: adjusted for the panel's pairs; `scored`: the scores that it is made of."""

    a: RowName
    b: RowName
    difference: Difference
    p_holm: float
    basis: Basis
    scored: tuple[CellScores, CellScores]

    @property
    def needed(self) -> Needed | None:
        """The numbers that would tell them apart, where `p_holm` leaves them together and their examples are known."""
        if self.p_holm < _ALPHA or self.basis is Basis.SEEDS:
            return None
        one, other = (scored.varying for scored in self.scored)
        return None if one is None or other is None else pairs.needed_of(one, other)


@dataclass(frozen=True)
class PanelEvidence:
    """The rows of one data set and model that can be compared, the best first.

    Attributes:
        conditions: what they have in common and other rows of the data set and model have not; "" where all have it.
        better: (K, K) chance that the row's method is better than the column's.
    """

    column: str
    model: str
    conditions: str
    rows: list[RowName]
    basis: Basis
    joint: Joint
    better: np.ndarray
    pairs: list[Pair]


@dataclass(frozen=True)
class RankIntervals:
    """Ranks over several data sets: of every row the least and the largest in 95 % of the draws, the share of draws in
    which it is the best, and (K, K) probabilities of improvement."""

    model: str
    conditions: str
    columns: list[str]
    rows: list[RowName]
    low: list[int]
    high: list[int]
    best: list[float]
    improvement: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """All of it. `ways`: by cell the share of the way from the linear probe to full fine-tuning, None where the two
    can't be told apart. `notes`: what wasn't compared, and why."""

    cells: dict[CellName, Sure] = field(default_factory=dict)
    panels: list[PanelEvidence] = field(default_factory=list)
    standings: list[RankIntervals] = field(default_factory=list)
    ways: dict[CellName, Share | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def collect(
    runs: Mapping[CellName, Sequence[RunRecord]], roots: Mapping[int, Path], studies: Mapping[int, str]
) -> Evidence:
    """The evidence of a leaderboard.

    Args:
        runs: by cell its records, which have scores.
        roots: by a record's `id` the results folder that it lies in; of others no predictions are read.
        studies: by a record's `id` the study that it is of, where studies stay apart.
    """
    scored = {cell: certainty.scores_of(records, roots) for cell, records in runs.items()}
    groups, notes = conditions.groups(runs, studies)
    panels = []
    for (column, model, shared), rows in groups.items():
        panel = _panel(column, model, shared, rows, scored)
        if panel is not None:
            panels.append(panel)
            notes += _left_out(panel, rows)
    tied = {
        (row, panel.column): tie
        for panel in panels
        for row, tie in zip(panel.rows, joint.ties(panel.joint), strict=True)
    }
    return Evidence(
        cells={
            cell: Sure(certainty.interval(cells, runs[cell]), intervals.by_seeds(cells.scores), tied.get(cell))
            for cell, cells in scored.items()
        },
        panels=panels,
        standings=_standings(panels),
        ways={cell: way for panel in panels for cell, way in _ways(panel).items()},
        notes=sorted(notes),
    )


def _panel(
    column: str, model: str, shared: str, rows: Sequence[RowName], scored: Mapping[CellName, CellScores]
) -> PanelEvidence | None:
    """The comparison of all rows that can be compared in one way; None where there are less than two of them."""
    rows = sorted(rows)
    found = certainty.compare([scored[row, column] for row in rows])
    if found is None:
        return None
    chosen = [rows[place] for place in found.places]
    paired = _pairs(chosen, found) if len(chosen) <= _PAIRED else []
    return PanelEvidence(column, model, shared, chosen, found.basis, found.joint, joint.better(found.joint), paired)


def _pairs(rows: Sequence[RowName], found: ComparableScores) -> list[Pair]:
    """Every two rows, Holm's adjustment over all of them."""
    numbers = list(combinations(range(len(rows)), 2))
    apart = _differences(found, numbers)
    adjusted = pairs.holm([one.p for one in apart])
    return [
        Pair(rows[i], rows[j], one, p, found.basis, (found.rows[i], found.rows[j]))
        for (i, j), one, p in zip(numbers, apart, adjusted, strict=True)
    ]


def _differences(found: ComparableScores, numbers: Sequence[tuple[int, int]]) -> list[Difference]:
    rows = found.rows
    if found.basis is Basis.SEEDS:
        over_seeds = [pairs.seeded(row.scores) for row in rows]
        return [pairs.welch(over_seeds[i], over_seeds[j]) for i, j in numbers]
    made = pairs.differences(found.joint, [len(row.scores) for row in rows])
    single = [row.examples if (parts := row.varying) and parts.seeds == 1 and parts.is_share else None for row in rows]
    return [
        made[i, j] if (one := single[i]) is None or (other := single[j]) is None else pairs.difference(one, other)
        for i, j in numbers
    ]


def _left_out(panel: PanelEvidence, rows: Sequence[RowName]) -> list[str]:
    """A note for rows that belong to a panel and can't be compared in it."""
    missing = len(rows) - len(panel.rows)
    if not missing:
        return []
    lack = "one seed" if panel.basis is Basis.SEEDS else "no scores of the same examples"
    where = ", ".join(filter(None, (panel.column, panel.model, panel.conditions)))
    return [f"{where}: {missing} of {len(rows)} rows have {lack} and aren't compared"]


def _standings(panels: Sequence[PanelEvidence]) -> list[RankIntervals]:
    """The standings of every model and conditions with several data sets: of the rows that are compared on all of
    them."""
    by_model: dict[tuple[str, str], list[PanelEvidence]] = defaultdict(list)
    for panel in panels:
        by_model[panel.model, panel.conditions].append(panel)
    standings = []
    for (model, shared), members in by_model.items():
        rows = [row for row in members[0].rows if all(row in panel.rows for panel in members)]
        if len(members) < 2 or len(rows) < 2:
            continue
        means = [[float(panel.joint.means[panel.rows.index(row)]) for row in rows] for panel in members]
        rows = [rows[i] for i in np.argsort(-np.mean(means, axis=0), kind="stable")]
        places = [[panel.rows.index(row) for row in rows] for panel in members]
        ranks = joint.ranks([panel.joint.select(place) for panel, place in zip(members, places, strict=True)])
        chances = [panel.better[np.ix_(place, place)] for panel, place in zip(members, places, strict=True)]
        standings.append(
            RankIntervals(
                *(model, shared, [panel.column for panel in members], rows),
                low=[int(rank) for rank in ranks.low],
                high=[int(rank) for rank in ranks.high],
                best=[float(share) for share in ranks.best],
                improvement=joint.improvement(chances),
            )
        )
    return standings


def _ways(panel: PanelEvidence) -> dict[CellName, Share | None]:
    """The share of the way of every row of a panel that has one linear probe and one full fine-tuning."""
    ends = [[i for i, row in enumerate(panel.rows) if row[0] == name] for name in (_START, _END)]
    if [len(rows) for rows in ends] != [1, 1]:
        return {}
    shares = joint.way(panel.joint, ends[0][0], ends[1][0]) or [None] * len(panel.rows)
    return {
        (row, panel.column): share
        for row, share in zip(panel.rows, shares, strict=True)
        if row[0] not in (_START, _END)
    }
