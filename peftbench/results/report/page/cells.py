"""The cells of the page's table: a row's runs on one data set, with all that a reader may ask of them."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from peftbench.results import quality, warnings
from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.report.certainty import Sure
from peftbench.results.report.measured import Measured
from peftbench.results.report.page import again, by_class, curve
from peftbench.results.report.page.document import Cell, CurveBand, Ends, MeanWithInterval, SeedScore
from peftbench.results.report.stats import Leaderboard
from peftbench.results.report.suites import RowName
from peftbench.results.statistics import intervals
from peftbench.results.statistics.intervals import Basis, Interval
from peftbench.results.store import ResultStore

#: Warnings that are about costs.
_OF_FIGURES = (warnings.WarningKind.BUSY_TRAINING, warnings.WarningKind.BUSY_INFERENCE)


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
    costs, busy = figures(board.measured, runs)
    score = MeanWithInterval(_mean([record.score for record in runs]) or 0.0, _ends(sure.interval))
    return Cell(
        score=score,
        runs=[SeedScore(r.config["seed"], r.score or 0.0, r.key, r.selected_step) for r in runs],
        basis=_basis(sure.interval),
        same_examples=_ends(sure.same_examples),
        tied=sure.tied,
        metrics=_metrics(runs, score),
        gap=_gap(runs),
        figures=costs,
        busy=busy,
        seeds_alone=sure.interval is not None and sure.interval.basis == Basis.SEEDS,
        few_seeds=sure.interval is not None and sure.interval.few_seeds,
        warnings=_warnings(runs),
        notes=notes,
        curve=_curve(board, runs),
        settings=settings,
        command=again.command(runs),
        classes=by_class.classes(runs),
    )


def figures(measured: Measured, runs: Sequence[RunRecord]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Medians of what was measured (of memory the largest), over the runs that a busy machine didn't slow; and of the
    figures for which there is none, why they aren't to be compared."""
    medians = measured.of(runs)
    disturbed = {id(record): quality.busy(record) for record in runs}
    busy = {}
    among: dict[tuple[int, ...], dict[str, float | None]] = {}  # Figures mostly have their quiet runs in common.
    for name in sorted(set().union(*disturbed.values())):
        quiet = [record for record in runs if name not in disturbed[id(record)]]
        if quiet:
            those = tuple(map(id, quiet))
            among[those] = among.get(those) or measured.of(quiet)
            medians[f"efficiency.{name}"] = among[those].get(f"efficiency.{name}")
        else:
            busy[f"efficiency.{name}"] = _why(runs, "inference" if name.startswith("inference") else "train")
    return medians, busy


def _why(runs: Sequence[RunRecord], what: str) -> str:
    shares = [(record.efficiency or {}).get(f"{what}_cores_fraction") for record in runs]
    share = statistics.median(value for value in shares if value is not None)
    return f"measured while others used the machine: it had {100 * share:.0f} % of its cores"


def _ends(interval: Interval | None) -> Ends | None:
    return None if interval is None else (interval.low, interval.high)


def _basis(interval: Interval | None) -> str | None:
    """The seeds and examples that an interval is of, in words."""
    if interval is None:
        return None
    examples = "" if interval.examples is None else f"{interval.examples} examples"
    seeds = f"{interval.seeds} seed{'s' if interval.seeds != 1 else ''}"
    if interval.basis == Basis.SEEDS:
        return f"{seeds} alone, as predictions are missing"
    return f"{seeds} and {examples}" if interval.basis == Basis.CROSSED else f"{examples} of one seed"


def _warnings(runs: Sequence[RunRecord]) -> list[str]:
    """The warnings that decide whether the score means anything. Busy machines are said of the figures that they made
    worthless."""
    warned = [one for record in runs for one in (record.warnings or warnings.of(record))]
    return list(dict.fromkeys(one["text"] for one in warned if one["kind"] not in _OF_FIGURES))


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, added up in sorted order; None where a value is missing."""
    present = sorted(value for value in values if value is not None)
    return sum(present) / len(present) if present and len(present) == len(values) else None


def _metrics(runs: Sequence[RunRecord], score: MeanWithInterval) -> dict[str, MeanWithInterval]:
    """The metrics that the score is the mean of, on the first evaluation split. Where there is one, they are the
    same."""
    split = (runs[0].config["dataset"].get("evaluation") or [""])[0]
    values = [(record.metrics.get(split) or {}).get("values") or {} for record in runs]
    means = {name: _mean([one.get(name) for one in values]) for name in values[0]}
    single = score if len(means) == 1 else None
    return {name: single or MeanWithInterval(mean) for name, mean in means.items() if mean is not None}


def _gap(runs: Sequence[RunRecord]) -> MeanWithInterval | None:
    """The score on training data less the score, with the interval of other seeds."""
    pairs = [((record.metrics.get("train") or {}).get("score"), record.score) for record in runs]
    gaps = [trained - score for trained, score in pairs if trained is not None and score is not None]
    if not gaps or len(gaps) < len(runs):
        return None
    return MeanWithInterval(_mean(gaps) or 0.0, _ends(intervals.by_seeds(np.array(sorted(gaps)))))


def _curve(board: Leaderboard, runs: Sequence[RunRecord]) -> CurveBand | None:
    roots = {id(record): root for record in runs if (root := board.roots.get(id(record))) is not None}
    stores = {root: ResultStore(root) for root in set(roots.values()) if (root / Folder.CURVES).is_dir()}
    points = [stores[root].curve(record) for record in runs if (root := roots.get(id(record))) in stores]
    return curve.over_seeds([one for one in points if one is not None])
