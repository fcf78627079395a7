"""The same runs before and after: an upgrade, another machine. Paired by data set, model, method, changes and seed."""

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peftbench.results.records import RunRecord
from peftbench.results.report import layout, naming
from peftbench.results.report.load import Results
from peftbench.results.statistics import intervals, pairs

#: Figures of a run whose change is shown, as the table heads them.
_COSTS = {"train_time_s": "time", "peak_memory_bytes": "memory", "inference_latency_ms": "latency"}
_ALPHA = 0.05
#: Data set, model, method, what the command line changed.
_Cell = tuple[str, str, str, str]


@dataclass(frozen=True)
class Change:
    """A cell before and after.

    Attributes:
        seeds: how many are in both.
        before, after: means over these.
        low, high: the 95 % interval of the difference; None for one seed.
        p: two-sided, adjusted for the number of cells (Holm); None where one seed tells nothing of the noise.
        costs: by figure what it is after, in units of before; None where one lacks it.
    """

    cell: _Cell
    seeds: int
    before: float
    after: float
    low: float | None
    high: float | None
    p: float | None
    costs: dict[str, float | None]

    @property
    def fell(self) -> bool:
        """True if the score is lower by more than noise."""
        return self.p is not None and self.p < _ALPHA and self.after < self.before


@dataclass(frozen=True)
class Comparison:
    """All cells that are in both; `versions` that changed, and `unpaired`: runs that have no partner, and why."""

    changes: list[Change]
    versions: list[str]
    unpaired: list[str]

    @property
    def fell(self) -> bool:
        """True if a score fell by more than noise."""
        return any(change.fell for change in self.changes)


def compare(before: Results, after: Results) -> Comparison:
    """The changes between the runs of two folders."""
    (old, doubled), (new, doubled_after) = _by_run(before.completed), _by_run(after.completed)
    both = sorted(old.keys() & new.keys())
    cells = sorted({run[:4] for run in both})
    changes = [_change(cell, [(old[run], new[run]) for run in both if run[:4] == cell]) for cell in cells]
    tested = [i for i, change in enumerate(changes) if change.p is not None]
    for i, p in zip(tested, pairs.holm([changes[i].p or 0.0 for i in tested]), strict=True):
        changes[i] = replace(changes[i], p=p)
    counts = {
        "before alone": len(old) - len(both),
        "after alone": len(new) - len(both),
        "not told apart by names and changes": doubled + doubled_after,
    }
    unpaired = [f"{n} run{'s' if n != 1 else ''} {where}" for where, n in counts.items() if n]
    return Comparison(changes, _versions([(old[run], new[run]) for run in both]), unpaired)


def _by_run(records: Sequence[RunRecord]) -> tuple[dict[tuple[str, str, str, str, int], RunRecord], int]:
    """Scored runs by cell and seed, and how many share theirs with another: these are left out."""
    scored = [(*_cell(record), int(record.config["seed"])) for record in records if record.score is not None]
    counts = Counter(scored)
    by_run = dict(zip(scored, (record for record in records if record.score is not None), strict=True))
    return {run: record for run, record in by_run.items() if counts[run] == 1}, sum(n for n in counts.values() if n > 1)


def _cell(record: RunRecord) -> _Cell:
    dataset, model, method = (str(record.config[group]["name"]) for group in ("dataset", "model", "method"))
    changed = (f"{key}={value}" for key, value in naming.values_set(record).items())
    return dataset, model, method, ", ".join(sorted(changed))


def _change(cell: _Cell, runs: Sequence[tuple[RunRecord, RunRecord]]) -> Change:
    scores = np.array([[before.score, after.score] for before, after in runs], float)
    apart = scores[:, 1] - scores[:, 0]
    interval = intervals.by_seeds(apart)
    if interval is None:
        low = high = None
        p = _one(runs[0])
    else:
        low, high = interval.low, interval.high
        p = intervals.two_sided(interval.mean, interval.se, interval.df)
    before, after = scores.mean(axis=0)
    return Change(cell, len(runs), float(before), float(after), low, high, p, _costs(runs))


def _one(pair: tuple[RunRecord, RunRecord]) -> float | None:
    """The p of one seed's difference, if it is an accuracy: against the deviation between runs on a fixed evaluation
    set, sqrt(err / 2 N). Source: arXiv 2304.01910."""
    before, after = pair
    if before.score == after.score:
        return 1.0
    split = before.metrics.get((before.config["dataset"].get("evaluation") or [""])[0]) or {}
    n = split.get("n")
    if list(split.get("values") or {}) != ["accuracy"] or not isinstance(n, int) or n < 1:
        return None
    wrong = 1 - ((before.score or 0.0) + (after.score or 0.0)) / 2
    return intervals.two_sided((after.score or 0.0) - (before.score or 0.0), float(np.sqrt(wrong / n)), np.inf)


def _costs(runs: Sequence[tuple[RunRecord, RunRecord]]) -> dict[str, float | None]:
    """The median over seeds of what a figure is after, in units of before."""
    ratios: dict[str, float | None] = {}
    for figure in _COSTS:
        both = [[(run.efficiency or {}).get(figure) for run in pair] for pair in runs]
        quotients = [new / old for old, new in both if old and new is not None]
        ratios[figure] = statistics.median(quotients) if quotients else None
    return ratios


def _versions(runs: Sequence[tuple[RunRecord, RunRecord]]) -> list[str]:
    """Versions, machine and commit, where they aren't the same."""
    sides: list[dict[str, set[str]]] = [{}, {}]
    for pair in runs:
        for side, record in zip(sides, pair, strict=True):
            environment = record.environment
            described: Mapping[str, object] = {
                **(environment.get("packages") or {}),
                **{name: environment.get(name) for name in ("cpu", "threads", "git_commit")},
                "gpu": ", ".join(environment.get("gpu") or []) or None,
                "protocol": record.protocol,
            }
            for name, value in described.items():
                side.setdefault(name, set()).add(str(value))
    names = sorted(sides[0].keys() | sides[1].keys())
    texts = {name: [", ".join(sorted(side.get(name, {"None"}))) for side in sides] for name in names}
    return [f"{name}: {before} → {after}" for name, (before, after) in texts.items() if before != after]


def render(comparison: Comparison) -> str:
    """The comparison as text, 80 columns wide."""
    header = ["", "method", "model", "data set", "before", "after", "difference", "seeds", *_COSTS.values()]
    lines = [_line(change) for change in comparison.changes]
    parts = [layout.tables(header, lines, left=4)] if lines else ["No run is in both folders."]
    if lines:
        parts.append(
            "! marks a score that fell by more than noise (5 %, Holm over all lines);\n"
            "? one seed of which the noise isn't known; costs are in units of before."
        )
    parts += [layout.bullets(part) for part in (comparison.versions, comparison.unpaired) if part]
    return "\n\n".join(parts)


def _line(change: Change) -> list[str]:
    dataset, model, method, changed = change.cell
    apart = f"{100 * (change.after - change.before):+.1f}"
    ends = "" if change.low is None or change.high is None else f" [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    return [
        "!" if change.fell else "?" if change.p is None else "",
        f"{method} ({changed})" if changed else method,
        *(model, dataset, f"{100 * change.before:.1f}", f"{100 * change.after:.1f}", apart + ends, str(change.seeds)),
        *(layout.number(change.costs[figure], "{:.2f}") for figure in _COSTS),
    ]
