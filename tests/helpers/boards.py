"""Records made up for reports, and the leaderboard of some."""

import copy
from typing import Any

from peftbench.config import identity
from peftbench.results.records import RunRecord
from peftbench.results.report import stats
from peftbench.results.report.load import Results
from tests.helpers.composed import composed

CONFIGS: dict[tuple[str, ...], dict[str, Any]] = {}


def made(score: float | None, *overrides: str, status: str = "completed", **more: Any) -> RunRecord:
    """A record of the given overrides; its key is made of them."""
    if overrides not in CONFIGS:
        CONFIGS[overrides] = identity.description(composed(["model=tiny_bert", *overrides]))
    values = {
        "key": "-".join(overrides) + status,
        "params": {"trainable": 10, "adapter": 8, "head": 2, "total": 1000},
        "efficiency": {"peak_memory_bytes": 5_000_000, "train_samples_per_s": 20.0},
        "metrics": {"train": {"score": 0.9}},
        "environment": {"data_fingerprint": "d", "model_fingerprint": "m", "cpu": "c", "threads": 1, "gpu": []},
    }
    config = copy.deepcopy(CONFIGS[overrides])  # A test may change its own.
    return RunRecord(status=status, config=config, score=score, **{**values, **more})


def board(*completed: RunRecord, failed: tuple[RunRecord, ...] = ()) -> stats.Leaderboard:
    return stats.leaderboard(Results(list(completed), list(failed)))
