"""`RunContext`: what a run is given in its process."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lightning.pytorch.loggers import Logger

from peftbench.config.types import RunConfig
from peftbench.data.forgetting import Questions
from peftbench.data.sources import DataSource
from peftbench.models.checkpoints import Checkpoint
from peftbench.results.records import RunRecord
from peftbench.results.store import Places
from peftbench.system.process_group import Emit


@dataclass(frozen=True)
class RunContext:
    """What a run is given: its configuration and key, where its inputs are, where it may write, who is told;
    `keep` takes the record as it stands from the moment that the score is there; `started` in Unix seconds."""

    config: RunConfig
    key: str
    source: DataSource
    checkpoint: Checkpoint
    places: Places
    sinks: Sequence[Logger]
    emit: Emit
    questions: Mapping[str, Questions] = field(default_factory=dict)
    judge: Checkpoint | None = None
    keep: Callable[[RunRecord], None] = lambda record: None
    started: float = field(default_factory=time.time)
