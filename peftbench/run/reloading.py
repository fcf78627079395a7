"""A finished run put together again, to be used: its model with its weights, its task, its tokenizer."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from peftbench.config.loading import from_description
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.methods.base import Method
from peftbench.methods.build import build as build_method
from peftbench.methods.finished import trained
from peftbench.models import backbones, checkpoints
from peftbench.models.checkpoints import Checkpoint
from peftbench.results import finished
from peftbench.results.finished import FinishedRun
from peftbench.results.records import RunRecord
from peftbench.run.training.tuner import FineTuner
from peftbench.tasks.base import Task
from peftbench.tasks.table import build as build_task

#: The name that messages have for the path of a record.
RECORD = "record"


@dataclass(frozen=True)
class Reloaded:
    """A finished run's model.

    Attributes:
        checkpoint: its base.
        tuner: asks the model as the run did; `merged` says whether the method is folded into the weights.
    """

    run: FinishedRun
    config: RunConfig
    checkpoint: Checkpoint
    method: Method
    task: Task
    tokenizer: Any
    tuner: FineTuner
    merged: bool

    @property
    def record(self) -> RunRecord:
        assert self.run.record is not None
        return self.run.record


def reload(path: str | Path, *, model_root: str | None = None, merged: bool = False) -> Reloaded:
    """Loads what a completed run left.

    Args:
        path: of its record.
        model_root: where checkpoints are, as for runs.
        merged: whether the method is folded into the weights, where it can be.

    Raises:
        ConfigError: the run's weights weren't kept, or its base isn't the one that is there.
    """
    run = finished.find(RECORD, str(path))
    if run.record is None:
        raise ConfigError(f"{RECORD}={path}: allowed is a finished run's record (.json)")
    config = replace(from_description(run.record.config), model_root=model_root)
    checkpoint = checkpoints.locate(config.model, model_root)
    finished.check_adapter(RECORD, run, checkpoint.folder, checkpoint.fingerprint)
    torch.manual_seed(config.seed)
    task = build_task(config)
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    task.prepare(tokenizer)
    method = build_method(config.method)
    model = trained(run, config, checkpoint, task)
    folded = method.merge(model) if merged else None
    tuner = FineTuner(
        model if folded is None else folded,
        task=task,
        method=method,
        recipe=config.recipe,
        micro_batch_size=None,
        total_steps=0,
        head=config.model.head,
    )
    return Reloaded(run, config, checkpoint, method, task, tokenizer, tuner.eval(), folded is not None)
