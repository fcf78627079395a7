"""The model that a run starts from: the checkpoint, or what a finished run made of it (`start_from`).

Tuning on a larger task first helps small ones (Phang et al. 2018, arXiv 1811.01088); papers that print RTE, MRPC and
STS-B often start them from MNLI (LoRA: arXiv 2106.09685, section 5.1).
"""

from collections.abc import Mapping
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig

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
        ConfigError: also as `check`.
    """
    model = backbones.load_model(run, checkpoint, task)
    if checkpoint.start is None:
        return model
    config = _config(checkpoint.start)
    mine, theirs = model.state_dict(), _plain(checkpoint.start, config, checkpoint).state_dict()
    for name in _taken(mine, theirs, run, config, task):
        mine[name].copy_(theirs[name])
    return model


def check(model: nn.Module, run: RunConfig, checkpoint: Checkpoint, task: Task) -> None:
    """Raises ConfigError if the record of `checkpoint.start` can't be read, or its run lacks weights of this model.

    Args:
        model: as `backbones.build_empty` makes it: names and shapes are all that is looked at.
    """
    if checkpoint.start is not None:
        config = _config(checkpoint.start)
        theirs = _empty(checkpoint.start, config, checkpoint)
        _taken(model.state_dict(), theirs.state_dict(), run, config, task)


def _config(found: Trained) -> RunConfig:
    assert found.record is not None
    try:
        return schema.from_description(found.record.config)
    except ConfigError as error:
        raise ConfigError(f"start_from: {error}") from None


def _taken(
    mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], run: RunConfig, config: RunConfig, task: Task
) -> list[str]:
    """The names of the weights that a finished run of `config` gives: all, but of a task head whose outputs mean
    something else none. Where words are the answer there is no such head, whatever its modules are called: ModernBERT's
    masked model has a `head` too."""
    same_head, found = _answers(config) == _answers(run), []
    for name, tensor in mine.items():
        in_head = task.formulation == "head" and backbones.in_head(name, run.model.head)
        if name in theirs and theirs[name].shape == tensor.shape and (same_head or not in_head):
            found.append(name)
        elif not in_head:
            raise ConfigError(f"start_from: the run has no weights for {name}")
    return found


def _answers(run: RunConfig) -> tuple[str, object]:
    """What a head's outputs mean."""
    return run.dataset.task, run.dataset.labels or run.dataset.name


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


def _empty(found: Trained, config: RunConfig, checkpoint: Checkpoint) -> nn.Module:
    """`_plain` without weights."""
    task = tasks.build(config)
    if found.is_adapter:
        return backbones.build_empty(config.model, checkpoint, task)
    with torch.device("meta"):  # Its own configuration knows how many layers it has left.
        return task.auto_model.from_config(AutoConfig.from_pretrained(found.weights))


def trained(found: Trained, config: RunConfig, checkpoint: Checkpoint, task: Task) -> Any:
    """The model that a finished run left: whole, or its adapter on the base.

    Args:
        config: the finished run's.
        checkpoint: its base.
        task: its task, prepared.
    """
    if found.is_adapter:
        base: Any = backbones.load_model(config, checkpoint, task)
        return PeftModel.from_pretrained(base, found.weights)
    return backbones.exact_head(task.auto_model.from_pretrained(found.weights, dtype=torch.float32), config, task)
