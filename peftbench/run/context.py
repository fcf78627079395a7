"""`RunContext`: what a run is given in its process."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lightning.pytorch.loggers import Logger

from peftbench.config.types import RunConfig
from peftbench.results.records import RunRecord
from peftbench.results.store import Places
from peftbench.run.prepared import PreparedRun
from peftbench.system.process_group import Emit


@dataclass(frozen=True)
class RunContext:
    """The context of a run: what it is given in its process.

    Attributes:
        prepared: the run: its configuration, its key, and where its inputs are.
        places: the files and folders that it may write.
        sinks: its loggers; on ranks behind the first none.
        emit: sends an event, a JSON object, to the parent process.
        keep: stores the record as it stands; called each time that something is added, from the score on.
        started: Unix seconds.
    """

    prepared: PreparedRun
    places: Places
    sinks: Sequence[Logger]
    emit: Emit
    keep: Callable[[RunRecord], None] = lambda record: None
    started: float = field(default_factory=time.time)

    @property
    def config(self) -> RunConfig:
        return self.prepared.config

    @property
    def key(self) -> str:
        return self.prepared.key
