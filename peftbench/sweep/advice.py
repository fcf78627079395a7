"""What records say of methods on a task: rows of like runs, with intervals and ties, the nearest evidence first."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.config import loading, paths
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.statistics import intervals, joint
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
        tied: whether it can't be told from the best; None: it has one seed and wasn't tested.
    """

    method: str
    changed: tuple[str, ...]
    runs: list[RunRecord] = field(default_factory=list)
    tied: bool | None = None

    @property
    def scores(self) -> np.ndarray:
        """(seeds,) scores."""
        return np.array([run.score for run in self.runs], float)

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval by seeds; of one seed by its examples, where the score is a share of right ones."""
        by_seeds = intervals.by_seeds(self.scores)
        if by_seeds is not None:
            return by_seeds.low, by_seeds.high
        run = self.runs[0]
        split: dict[str, Any] = run.metrics.get((run.config["dataset"].get("evaluation") or [""])[0]) or {}
        if list(split.get("values") or {}) == ["accuracy"] and split.get("n"):
            return intervals.wilson(float(run.score or 0.0) * split["n"], split["n"])
        return None

    def figure(self, group: str, name: str) -> float | None:
        """The median of a figure over the runs."""
        values = [value for run in self.runs if (value := (getattr(run, group) or {}).get(name)) is not None]
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
    with several seeds: the best of many with one seed each is mostly luck.

    Args:
        without: a data set whose records aren't looked at.
    """
    grouped: dict[Any, dict[Any, MethodRuns]] = defaultdict(dict)
    for record in _records(config.results_dir):
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
        grouped[where].setdefault(row, MethodRuns(described["method"]["name"], changed)).runs.append(record)
    panels = [
        ComparableRuns(near, data, model, conditions, _ranked(list(rows.values())))
        for (near, data, model, conditions, _), rows in grouped.items()
    ]
    return sorted(panels, key=lambda panel: (panel.distance, -_tested(panel), -len(panel.rows), -_seeds(panel)))


def _tested(panel: ComparableRuns) -> int:
    return sum(len(row.runs) > 1 for row in panel.rows)


def _seeds(panel: ComparableRuns) -> int:
    return sum(len(row.runs) for row in panel.rows)


def _records(results_dir: str) -> list[RunRecord]:
    """The completed records of a results folder and of what is published; each key once."""
    published = paths.published()
    roots = [Path(results_dir), *(sorted(published.iterdir()) if published is not None else [])]
    by_key: dict[str, RunRecord] = {}
    for root in roots:
        if not (root / "records").is_dir():
            continue
        for _, record in ResultStore(str(root)).scan():
            if isinstance(record, RunRecord) and record.status == "completed":
                by_key.setdefault(record.key, record)
    return list(by_key.values())


def _distance(described: dict[str, Any], config: RunConfig) -> int | None:
    """The place in `NEAR`; None: too far to say anything."""
    data, same_model = described["dataset"], described["model"]["name"] == config.model.name
    if data["name"] == config.dataset.name:
        return 0 if same_model else 1
    return 2 if data.get("task") == config.dataset.task and same_model else None


def _ranked(rows: list[MethodRuns]) -> list[MethodRuns]:
    """The rows, best first, with their ties."""
    rows = sorted(rows, key=lambda row: -row.scores.mean())
    mark(rows)
    return rows


def mark(rows: Sequence[MethodRuns]) -> None:
    """Test which rows can't be told from the best (Hsu's test by seeds); rows of one seed aren't tested."""
    for row in rows:
        row.tied = None
    tested = [row for row in rows if len(row.runs) > 1]
    if len(tested) > 1:
        for row, tied in zip(tested, joint.ties(joint.by_seeds([row.scores for row in tested])), strict=True):
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
