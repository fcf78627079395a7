"""The cells of the page's table: a row's runs on one data set, with all that a reader may ask of them."""

from collections.abc import Mapping, Sequence

from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.report import overfitting
from peftbench.results.report.certainty import Sure
from peftbench.results.report.page import again, by_class, curve
from peftbench.results.report.page.document import Cell, CurveBand, Ends, MeanWithInterval, SeedScore
from peftbench.results.report.stats import Leaderboard
from peftbench.results.report.suites import RowName
from peftbench.results.statistics.intervals import Basis, Interval
from peftbench.results.store import ResultStore


def cell(
    board: Leaderboard, name: tuple[RowName, str], settings: Mapping[str, str], notes: Sequence[tuple[str, str]]
) -> Cell:
    """A cell of a leaderboard.

    Args:
        settings: of its configuration what isn't the same in all cells.
        notes: what its comparison with others gave.
    """
    runs = sorted(board.runs[name], key=lambda record: (record.config["seed"], record.key))
    sure = board.evidence.cells.get(name, Sure(None, None))
    measured = board.measured.of(runs)
    score = MeanWithInterval(_mean([record.score for record in runs]) or 0.0, _ends(sure.interval))
    return Cell(
        score=score,
        runs=[_seed(record) for record in runs],
        basis=_basis(sure.interval),
        same_examples=_ends(sure.same_examples),
        tied=sure.tied,
        metrics=_metrics(runs, score),
        gap=_gap(runs),
        figures=measured.figures,
        busy=measured.busy,
        seeds_alone=sure.interval is not None and sure.interval.basis == Basis.SEEDS,
        few_seeds=sure.interval is not None and sure.interval.few_seeds,
        warnings=board.warned.get(name, []),
        notes=notes,
        curve=_curve(board, runs),
        settings=settings,
        command=again.command(runs),
        classes=by_class.classes(runs),
    )


def _seed(record: RunRecord) -> SeedScore:
    chosen = record.selection or {}
    if (chosen.get("evaluations") or 0) < 2:
        chosen = {}  # There was one step to choose.
    scores = chosen.get("score"), chosen.get("last_score")
    return SeedScore(record.config["seed"], record.score or 0.0, record.key, record.selected_step, *scores)


def _ends(interval: Interval | None) -> Ends | None:
    return None if interval is None else (interval.low, interval.high)


def _basis(interval: Interval | None) -> str | None:
    """The seeds and examples that an interval is of, in words."""
    if interval is None:
        return None
    examples = "" if interval.examples is None else f"{interval.examples} examples"
    seeds = f"{interval.seeds} seed{'s' if interval.seeds != 1 else ''}"
    if interval.basis == Basis.SEEDS:
        return f"{seeds} alone, as scores by example are missing"
    return f"{seeds} and {examples}" if interval.basis == Basis.CROSSED else f"{examples} of one seed"


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, added up in sorted order; None where a value is missing."""
    present = sorted(value for value in values if value is not None)
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _metrics(runs: Sequence[RunRecord], score: MeanWithInterval) -> dict[str, MeanWithInterval]:
    """The metrics that the score is the mean of, on the first evaluation split. Where there is one, they are the
    same."""
    values = [(record.scored_split or {}).get("values") or {} for record in runs]
    means = {name: _mean([one.get(name) for one in values]) for name in values[0]}
    single = score if len(means) == 1 else None
    return {name: single or MeanWithInterval(mean) for name, mean in means.items() if mean is not None}


def _gap(runs: Sequence[RunRecord]) -> MeanWithInterval | None:
    found = overfitting.gap(runs)
    return None if found is None else MeanWithInterval(*found)


def _curve(board: Leaderboard, runs: Sequence[RunRecord]) -> CurveBand | None:
    roots = {id(record): root for record in runs if (root := board.roots.get(id(record))) is not None}
    stores = {root: ResultStore(root) for root in set(roots.values()) if (root / Folder.CURVES).is_dir()}
    points = [stores[root].curve(record) for record in runs if (root := roots.get(id(record))) in stores]
    return curve.over_seeds([one for one in points if one is not None])
