"""The model that a run starts from: the checkpoint, or what a finished run made of it (`start_from`).

Tuning on a larger task first helps small ones (Phang et al. 2018, arXiv 1811.01088); papers that print RTE, MRPC and
STS-B often start them from MNLI (LoRA: arXiv 2106.09685, section 5.1).
"""

from typing import Any

import torch
from peft import PeftModel
from torch import nn

from peftbench import backbones, schema, tasks
from peftbench.checkpoints import Checkpoint
from peftbench.errors import ConfigError
from peftbench.inputs import Trained
from peftbench.methods.build import build
from peftbench.schema import RunConfig
from peftbench.tasks.base import Task


def load_model(run: RunConfig, checkpoint: Checkpoint, task: Task) -> nn.Module:
    """`backbones.load_model`, with the weights of the run that `checkpoint.start` names, an adapter's folded in. The
    task head is new unless the labels are the same.

    Raises:
        ConfigError: also if the run lacks weights of this model.
    """
    model = backbones.load_model(run, checkpoint, task)
    if checkpoint.start is None:
        return model
    assert checkpoint.start.record is not None
    config = schema.from_description(checkpoint.start.record.config)
    theirs = _plain(checkpoint.start, config, checkpoint).state_dict()
    same_head = _answers(config) == _answers(run)
    for name, mine in model.state_dict().items():
        if name in theirs and theirs[name].shape == mine.shape and (same_head or not _head(name, run)):
            mine.copy_(theirs[name])
        elif not _head(name, run):
            raise ConfigError(f"start_from: the run has no weights for {name}")
    return model


def _answers(run: RunConfig) -> tuple[str, object]:
    """What a head's outputs mean."""
    return run.dataset.task, run.dataset.labels or run.dataset.name


def _head(name: str, run: RunConfig) -> bool:
    return backbones.in_head(name, run.model.head)


def _plain(found: Trained, config: RunConfig, checkpoint: Checkpoint) -> nn.Module:
    """The finished run's model without an adapter beside it."""
    task = tasks.build(config)
    task.prepare(backbones.load_tokenizer(config.model, checkpoint))
    model = trained(found, config, checkpoint, task)
    if not isinstance(model, PeftModel):
        return model
    merged = build(config.method).merge(model)
    if merged is None:
        raise ConfigError(f"start_from: {config.method.name} can't be folded into this model's weights")
    return merged


def trained(found: Trained, config: RunConfig, checkpoint: Checkpoint, task: Task) -> Any:
    """The model that a finished run left: whole, or its adapter on the base.

    Args:
        config: the finished run's.
        checkpoint: its base.
        task: its task, prepared.
    """
    if (found.weights / "adapter_config.json").is_file():
        base: Any = backbones.load_model(config, checkpoint, task)
        return PeftModel.from_pretrained(base, found.weights)
    return task.auto_model.from_pretrained(found.weights, dtype=torch.float32)
