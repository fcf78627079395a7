"""The same runs before and after: an upgrade, another machine. Paired by data set, model, method, changes and seed.

A cell whose runs were made under other conditions is shown, and not tested.
"""

import functools
import json
import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peftbench.results import quality
from peftbench.results.records import RunRecord
from peftbench.results.report import layout, naming
from peftbench.results.report.flattening import flat
from peftbench.results.report.load import Results
from peftbench.results.statistics import intervals, pairs

#: Figures of a run whose change is shown, as the table heads them.
_COSTS = {"train_time_s": "time", "peak_memory_bytes": "memory", "inference_latency_ms": "latency"}
_ALPHA = 0.05
#: How the keys begin that two scores must have in common to be compared, beside their data.
_CONDITIONS = ("dataset.", "recipe.", "tune", "formulation")
_DATA = "data"
#: Mappings that are one setting each: which keys they have says as much as the values.
_WHOLE = (("tune_space",), ("tune_halving",), ("dataset", "metrics"))
#: Settings that are named, at most.
_NAMED = 20
#: Data set, model, method, what the command line changed.
_Cell = tuple[str, str, str, str]


@dataclass(frozen=True)
class Change:
    """A cell before and after.

    Attributes:
        seeds: how many are in both.
        before, after: means over these.
        low, high: the 95 % interval of the difference; None for one seed.
        p: two-sided, adjusted for the number of cells (Holm); None where nothing tells the noise, or it isn't tested.
        costs: by figure what it is after, in units of before; None where one lacks it or was timed on a busy machine.
        unlike: whether the runs were made under other conditions.
    """

    cell: _Cell
    seeds: int
    before: float
    after: float
    low: float | None
    high: float | None
    p: float | None
    costs: dict[str, float | None]
    unlike: bool = False

    @property
    def fell(self) -> bool:
        """True if the score is lower by more than noise."""
        return self.p is not None and self.p < _ALPHA and self.after < self.before


@dataclass(frozen=True)
class Comparison:
    """All cells that are in both; `versions` and `settings` that changed; of `unpaired` runs how many, and why."""

    changes: list[Change]
    versions: list[str]
    settings: list[str]
    unpaired: list[str]

    @property
    def fell(self) -> bool:
        """True if a score fell by more than noise."""
        return any(change.fell for change in self.changes)


def compare(before: Results, after: Results) -> Comparison:
    """The changes between the runs of two folders."""
    (old, doubled), (new, doubled_after) = _by_run(before.completed), _by_run(after.completed)
    both = sorted(old.keys() & new.keys())
    differing = {run: _differing(old[run], new[run]) for run in both}
    changes = []
    for cell in sorted({run[:4] for run in both}):
        runs = [run for run in both if run[:4] == cell]
        unlike = any(key == _DATA or key.startswith(_CONDITIONS) for run in runs for key in differing[run])
        changes.append(_change(cell, [(old[run], new[run]) for run in runs], unlike))
    tested = [i for i, change in enumerate(changes) if change.p is not None]
    for i, p in zip(tested, pairs.holm([changes[i].p or 0.0 for i in tested]), strict=True):
        changes[i] = replace(changes[i], p=p)
    counts = {
        "before alone": len(old) - len(both),
        "after alone": len(new) - len(both),
        "not told apart by names and changes": doubled + doubled_after,
    }
    unpaired = [f"{n} run{'s' if n != 1 else ''} {where}" for where, n in counts.items() if n]
    made = [(old[run], new[run]) for run in both]
    settings = sorted({f"{key}: {a} → {b}" for one in differing.values() for key, (a, b) in one.items()})
    more = len(settings) - _NAMED
    settings = [*settings[:_NAMED], *([f"and {more} more"] if more > 0 else [])]
    return Comparison(changes, _versions(made), settings, unpaired)


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


def _differing(before: RunRecord, after: RunRecord) -> dict[str, tuple[str, str]]:
    """Settings that decide a result, and the data, where both runs say them and they aren't the same."""
    from peftbench.config import identity  # Brings OmegaConf: a report does without.

    deciding = {key for run in (before, after) for key in flat(json.loads(identity.described_identity(run.config)))}
    sides = [_said(run, deciding) for run in (before, after)]
    both = sorted(sides[0].keys() & sides[1].keys())
    return {key: (sides[0][key], sides[1][key]) for key in both if sides[0][key] != sides[1][key]}


def _said(record: RunRecord, deciding: Collection[str]) -> dict[str, str]:
    """The settings that a record says, as texts: mappings that are one setting as a whole."""
    config, whole = record.config, {}
    for *outer, name in _WHOLE:
        part = functools.reduce(lambda found, key: found[key], outer, config)
        if name in part:
            whole[".".join((*outer, name))] = json.dumps(part[name], sort_keys=True)
    data = record.environment.get("data_fingerprint")
    within = tuple(f"{key}." for key in whole)
    single = {key: text for key, text in flat(config).items() if key in deciding and not key.startswith(within)}
    return {**single, **whole, **({} if data is None else {_DATA: str(data)})}


def _change(cell: _Cell, runs: Sequence[tuple[RunRecord, RunRecord]], unlike: bool) -> Change:
    scores = np.array([[before.score, after.score] for before, after in runs], float)
    apart = scores[:, 1] - scores[:, 0]
    interval, noise = intervals.by_seeds(apart), _noise(runs)
    errors = [(interval.se, interval.df)] if interval is not None else []
    errors += [] if noise is None else [(noise, np.inf)]
    # Seeds that happen to differ alike say no more than so many examples can.
    p = max((intervals.two_sided(float(apart.mean()), *error) for error in errors), default=None)
    half = max(intervals.t_quantile(df) * se if se else 0.0 for se, df in errors) if errors else 0.0
    if not apart.any():
        p = 1.0
    elif not half:
        p = None
    low, high = (None, None) if interval is None or not half else (apart.mean() - half, apart.mean() + half)
    before, after = scores.mean(axis=0)
    return Change(
        *(cell, len(runs), float(before), float(after), low, high), None if unlike else p, _costs(runs), unlike
    )


def _noise(runs: Sequence[tuple[RunRecord, RunRecord]]) -> float | None:
    """The standard error of the difference by the examples, of accuracies: a run deviates by sqrt(err / 2 N) from
    others on the same evaluation set. Source: arXiv 2304.01910."""
    variances = []
    for before, after in runs:
        split = before.scored_split or {}
        n = split.get("n")
        if list(split.get("values") or {}) != ["accuracy"] or not isinstance(n, int) or n < 1:
            return None
        variances.append((1 - ((before.score or 0.0) + (after.score or 0.0)) / 2) / n)
    return float(np.sqrt(np.mean(variances) / len(runs)))


def _costs(runs: Sequence[tuple[RunRecord, RunRecord]]) -> dict[str, float | None]:
    """The median over seeds of what a figure is after, in units of before."""
    ratios: dict[str, float | None] = {}
    for figure in _COSTS:
        quiet = [pair for pair in runs if not any(figure in quality.busy(run) for run in pair)]
        both = [[(run.efficiency or {}).get(figure) for run in pair] for pair in quiet]
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
            "? one of which the noise isn't known; ≠ one that was made under other\n"
            "conditions, and isn't tested; costs are in units of before."
        )
    told = (comparison.versions, comparison.settings, comparison.unpaired)
    parts += [layout.bullets(part) for part in told if part]
    return "\n\n".join(parts)


def _line(change: Change) -> list[str]:
    dataset, model, method, changed = change.cell
    apart = f"{100 * (change.after - change.before):+.1f}"
    ends = "" if change.low is None or change.high is None else f" [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    return [
        "!" if change.fell else "≠" if change.unlike else "?" if change.p is None else "",
        f"{method} ({changed})" if changed else method,
        *(model, dataset, f"{100 * change.before:.1f}", f"{100 * change.after:.1f}", apart + ends, str(change.seeds)),
        *(layout.number(change.costs[figure], "{:.2f}") for figure in _COSTS),
    ]
