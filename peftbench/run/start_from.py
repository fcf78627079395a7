"""The model that a run starts from: its checkpoint, or what a finished run made of it (`start_from`).

Tuning on a larger task first helps small ones (Phang et al. 2018, arXiv 1811.01088); papers that print RTE, MRPC and
STS-B often start them from MNLI (LoRA: arXiv 2106.09685, section 5.1).
"""

from collections.abc import Mapping

import torch
from torch import nn

from peftbench.config import loading
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.methods.finished import empty, plain
from peftbench.models import backbones, parameters
from peftbench.models.checkpoints import Checkpoint
from peftbench.results.finished import FinishedRun
from peftbench.tasks.base import Task


def load_model(run: RunConfig, checkpoint: Checkpoint, task: Task) -> nn.Module:
    """`backbones.load_model`, with the weights of the run that `checkpoint.start` names, its adapter merged. The task
    head is new unless its outputs mean the same.

    Raises:
        ConfigError: as `backbones.load_model` and `check`.
    """
    model = backbones.load_model(run, checkpoint, task)
    if checkpoint.start is None:
        return model
    config = _config(checkpoint.start)
    mine, theirs = model.state_dict(), plain(checkpoint.start, config, checkpoint).state_dict()
    for name in _taken(mine, theirs, run, config, task):
        mine[name].copy_(theirs[name])
    return model


def check(model: nn.Module, run: RunConfig, checkpoint: Checkpoint, task: Task) -> None:
    """Raises ConfigError if the record of `checkpoint.start` can't be read, or its run lacks weights of this model.

    Args:
        model: of `backbones.build_empty`; only names and shapes are compared.
    """
    if checkpoint.start is not None:
        config = _config(checkpoint.start)
        theirs = empty(checkpoint.start, config, checkpoint)
        _taken(model.state_dict(), theirs.state_dict(), run, config, task)


def _config(finished: FinishedRun) -> RunConfig:
    """The configuration of a finished run."""
    assert finished.record is not None
    try:
        return loading.from_description(finished.record.config)
    except ConfigError as error:
        raise ConfigError(f"start_from: {error}") from None


def _taken(
    mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], run: RunConfig, config: RunConfig, task: Task
) -> list[str]:
    """The names of the weights that are taken from a finished run of `config`: all, less a task head whose outputs mean
    something else.

    Only with formulation "head" is there a task head: ModernBERT's masked language model has a module `head` too.
    """
    same_head, taken = _answers(config) == _answers(run), []
    for name, tensor in mine.items():
        in_head = task.formulation == "head" and parameters.in_head(name, run.model.head)
        if name in theirs and theirs[name].shape == tensor.shape and (same_head or not in_head):
            taken.append(name)
        elif not in_head:
            raise ConfigError(f"start_from: the run has no weights for {name}")
    return taken


def _answers(run: RunConfig) -> tuple[str, object]:
    """The meaning of the outputs of a run's task head: its task, with its labels or else its data set."""
    return run.dataset.task, run.dataset.labels or run.dataset.name
