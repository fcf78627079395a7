"""What records say of methods on a task: rows of like runs, with intervals and ties, the nearest evidence first."""

import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.config import loading, paths
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.results import quality
from peftbench.results.records import RunRecord
from peftbench.results.report import certainty
from peftbench.results.report.certainty import CellScores
from peftbench.results.reproduction import tested
from peftbench.results.statistics.intervals import Interval
from peftbench.results.store import ResultStore

#: How near evidence is to the question, the nearest first.
NEAR = ("same task and model", "same task, another model", "same kind of task, same model")
#: Of a run's recipe, what must be the same for scores to be compared.
_CONDITIONS = ("train_samples", "shots", "epochs", "max_steps", "batch_size", "selection")


@dataclass
class MethodRuns:
    """A method's runs under the same conditions.

    Attributes:
        changed: what was set of it on the command line.
        roots: by a run's `id` the results folder that it lies in.
        tied: whether it can't be told from the best; None: it wasn't compared.
    """

    method: str
    changed: tuple[str, ...]
    roots: Mapping[int, Path]
    runs: list[RunRecord] = field(default_factory=list)
    tied: bool | None = None

    @property
    def mean(self) -> float:
        """The mean score."""
        return float(np.mean([run.score for run in self.runs]))

    @functools.cached_property
    def scored(self) -> CellScores:
        """The scores, with those of examples where the predictions are there. Reads files: once all runs are in."""
        return certainty.scores_of(self.runs, self.roots)

    def interval(self) -> Interval | None:
        """The 95 % interval, as in a report."""
        return certainty.interval(self.scored, self.runs)

    def figure(self, group: str, name: str) -> float | None:
        """The median of a figure over the runs that a busy machine didn't slow; None where there is none."""
        runs = [run for run in self.runs if group != "efficiency" or name not in quality.busy(run)]
        values = [value for run in runs if (value := (getattr(run, group) or {}).get(name)) is not None]
        return float(np.median(values)) if values else None


@dataclass
class ComparableRuns:
    """Rows that may be compared: `distance` is a place in `NEAR`, `conditions` says what they have in common."""

    distance: int
    dataset: str
    model: str
    conditions: str
    rows: list[MethodRuns]


def panels(config: RunConfig, *, without: str | None = None) -> list[ComparableRuns]:
    """All evidence for a run's data set and model, the nearest first, then what tested the most methods
    with several seeds: the best of many with one seed each is mostly luck. Rows stand by their score; see `mark`.

    Args:
        without: a data set whose records aren't looked at.
    """
    grouped: dict[Any, dict[Any, MethodRuns]] = defaultdict(dict)
    roots: dict[int, Path] = {}
    for record, root in _records(config.results_dir):
        roots[id(record)] = root
        described = record.config
        near = _distance(described, config)
        if near is None or described["dataset"]["name"] == without or record.score is None:
            continue
        recipe = described["recipe"]
        same = ", ".join(f"{key} {recipe[key]}" for key in _CONDITIONS if recipe.get(key) is not None)
        names = (near, described["dataset"]["name"], described["model"]["name"])
        where = (*names, f"{same}, protocol {record.protocol}", described.get("formulation"))
        changed = tuple(word for word in record.changed if not word.startswith(("method=", "model=")))
        row = (described["method"]["name"], json.dumps(described["method"], sort_keys=True))
        grouped[where].setdefault(row, MethodRuns(described["method"]["name"], changed, roots)).runs.append(record)
    panels = [
        ComparableRuns(near, data, model, conditions, sorted(rows.values(), key=lambda row: -row.mean))
        for (near, data, model, conditions, _), rows in grouped.items()
    ]
    return sorted(panels, key=lambda panel: (panel.distance, -_tested(panel), -len(panel.rows), -_seeds(panel)))


def _tested(panel: ComparableRuns) -> int:
    """The number of methods with several seeds as their files have them: what was compared at set sizes says less of
    methods that are chosen by name."""
    return len({row.method for row in panel.rows if len(row.runs) > 1 and not row.changed})


def _seeds(panel: ComparableRuns) -> int:
    return sum(len(row.runs) for row in panel.rows)


def _records(results_dir: str) -> list[tuple[RunRecord, Path]]:
    """The completed records of a results folder and of what is published, with their folder; each key once. Runs
    that test a saying aren't among them: one method at many rates would be the panel with the most rows."""
    published = paths.published()
    roots = [Path(results_dir), *(sorted(published.iterdir()) if published is not None else [])]
    by_key: dict[str, tuple[RunRecord, Path]] = {}
    for root in roots:
        if not (root / "records").is_dir():
            continue
        left_out = tested.keys(root)
        for _, record in ResultStore(str(root)).scan():
            if isinstance(record, RunRecord) and record.status == "completed" and record.key not in left_out:
                by_key.setdefault(record.key, (record, root))
    return list(by_key.values())


def _distance(described: dict[str, Any], config: RunConfig) -> int | None:
    """The place in `NEAR`; None: too far to say anything."""
    data, same_model = described["dataset"], described["model"]["name"] == config.model.name
    if data["name"] == config.dataset.name:
        return 0 if same_model else 1
    return 2 if data.get("task") == config.dataset.task and same_model else None


def mark(rows: Sequence[MethodRuns]) -> None:
    """Test which rows can't be told from the best of them."""
    for row, tied in zip(rows, certainty.ties([row.scored for row in rows]), strict=True):
        row.tied = tied


#: What the names of our own studies begin with, whose records are evidence by themselves.
_OWN = "peftbench/"


def printed(dataset: str) -> list[str]:
    """Papers' rows of a data set, as printed."""
    lines = []
    for name, file in paths.choice_files("experiment").items():
        try:
            written = loading.read_yaml(file)
        except ConfigError:
            continue
        groups = {k.split("/")[-1]: v for d in written.get("defaults", []) if isinstance(d, dict) for k, v in d.items()}
        expected = (written.get("expected") or {}).get(dataset)
        if not name.startswith(_OWN) and isinstance(expected, dict) and "value" in expected:
            spread = f" +- {100 * expected['spread']:.1f}" if expected.get("spread") is not None else ""
            row = f"{groups.get('method')} on {groups.get('model')}: {expected['metric']} {100 * expected['value']:.1f}"
            lines.append(f"{row}{spread} ({expected['source']}; experiment={name})")
    return lines
