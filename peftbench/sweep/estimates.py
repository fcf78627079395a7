"""How long a run may take, by the records of its like on this machine."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.system.machine import processor


def seconds(configs: Sequence[RunConfig], *, anywhere: bool = False) -> list[float | None]:
    """Seconds of each run: the median of its `times`; None where there is none."""
    return [statistics.median(alike) if alike else None for alike in times(configs, anywhere=anywhere)]


def times(configs: Sequence[RunConfig], *, anywhere: bool = False) -> list[list[float]]:
    """The seconds that the completed records like each run (`_alike`) took, training time scaled to the run's
    examples."""
    return [
        [t for record in alike if (t := _scaled(record, config)) is not None]
        for config, alike in zip(configs, _alike(configs, anywhere), strict=True)
    ]


def memory(configs: Sequence[RunConfig], *, anywhere: bool = False) -> list[float | None]:
    """Bytes of each run's process at its peak: the most of the completed records like it; None where there is none."""
    peaks = [
        [(record.efficiency or {}).get("peak_memory_bytes") for record in alike] for alike in _alike(configs, anywhere)
    ]
    return [max((float(peak) for peak in of_run if peak is not None), default=None) for of_run in peaks]


def _alike(configs: Sequence[RunConfig], anywhere: bool) -> list[list[RunRecord]]:
    """The completed records of the same method, model, data set and hardware as each run, on a processor of this name,
    or of any."""
    by_likeness: dict[Any, list[RunRecord]] = defaultdict(list)
    for root in {config.results_dir for config in configs}:
        for _, record in ResultStore(root).scan():
            if isinstance(record, RunRecord) and record.status == "completed":
                where = {} if anywhere else record.environment
                by_likeness[root, _likeness(record.config, where)].append(record)
    here = {} if anywhere else {"cpu": processor()}
    return [by_likeness[c.results_dir, _likeness(identity.description(c), here)] for c in configs]


def _likeness(config: dict[str, Any], environment: dict[str, Any]) -> tuple[Any, ...]:
    """The values that two runs must have in common for one's time to say something of the other's."""
    names = (config[part]["name"] for part in ("method", "model", "dataset"))
    # Without nulls: a key that a record's time didn't know of.
    hardware = tuple(sorted((k, str(v)) for k, v in config.get("hardware", {}).items() if v is not None))
    return (*names, hardware, environment.get("cpu"))


def _scaled(record: RunRecord, config: RunConfig) -> float | None:
    """Seconds that a record's run would have taken with another run's length; None: the record doesn't say enough."""
    efficiency = record.efficiency or {}
    run_time, training = efficiency.get("run_time_s"), efficiency.get("train_time_s") or 0.0
    rows = (record.samples or {}).get("train")
    if run_time is None or not rows:
        return None
    before = examples(record.config["recipe"], rows)
    recipe = identity.description(config)["recipe"]
    # What the record was trained on, unless it or this run is held to fewer rows than there are.
    available = (
        rows
        if record.config["recipe"].get("train_samples") is None
        else config.dataset.rows.get(config.dataset.train, rows)
    )
    after = examples(recipe, min(available, recipe["train_samples"] or available))
    seconds: float = run_time - training + training * after / before if before else run_time
    return seconds


def examples(recipe: dict[str, Any], rows: int) -> int:
    """Training examples that a run goes through."""
    if recipe.get("max_steps"):
        return int(recipe["max_steps"] * recipe["batch_size"])
    return int(recipe["epochs"] * rows)


def in_words(value: float | None) -> str:
    """A length of time as a person says it."""
    if value is None:
        return "unknown"
    minutes = value / 60
    if value < 99:
        return f"{value:.0f} s"
    return f"{minutes:.0f} min" if minutes < 99 else f"{minutes / 60:.1f} h"
