"""The model that a finished run left, loaded again."""

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig

from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.methods.build import build
from peftbench.models import backbones
from peftbench.models.checkpoints import Checkpoint
from peftbench.results.finished import FinishedRun
from peftbench.tasks.base import Task
from peftbench.tasks.table import build as build_task


def plain(finished: FinishedRun, config: RunConfig, checkpoint: Checkpoint) -> nn.Module:
    """The finished run's model without an adapter beside it."""
    task = build_task(config)
    task.prepare(backbones.load_tokenizer(config.model, checkpoint))
    model = trained(finished, config, checkpoint, task)
    if not isinstance(model, PeftModel):
        return model
    merged = build(config.method).merge(model)
    if merged is None:
        raise ConfigError(f"start_from: {config.method.name} can't be folded into this model's weights")
    return merged


def empty(finished: FinishedRun, config: RunConfig, checkpoint: Checkpoint) -> nn.Module:
    """`plain` without weights: names and shapes alone."""
    task = build_task(config)
    if finished.is_adapter:
        return backbones.build_empty(config.model, checkpoint, task)
    with torch.device("meta"):  # Its own configuration knows how many layers it has left.
        return task.auto_model.from_config(AutoConfig.from_pretrained(finished.weights))


def trained(finished: FinishedRun, config: RunConfig, checkpoint: Checkpoint, task: Task) -> Any:
    """The model that a finished run left: whole, or its adapter on the base.

    Args:
        config: the finished run's.
        checkpoint: its base.
        task: its task, prepared.
    """
    if finished.is_adapter:
        base: Any = backbones.load_model(config, checkpoint, task)
        return PeftModel.from_pretrained(base, finished.weights)
    return backbones.exact_head(task.auto_model.from_pretrained(finished.weights, dtype=torch.float32), config, task)
