"""`Method`: what a way of training may decide. Each decision has a default, so that a method states its own alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.config.types import MethodConfig, ModelConfig, RunConfig
from peftbench.data.batch import Batch
from peftbench.models import parameters
from peftbench.models.parameters import MakeOptimizer
from peftbench.tasks.base import Task


@dataclass(frozen=True)
class Context:
    """What a method may look at when it is applied.

    Attributes:
        model: names of the model's parts; `task`: what is solved.
        total_steps: optimiser steps of the whole run (AdaLoRA plans with it).
        seed: the run's seed.
        batches: gives all training examples once through, in a fixed order (EVA and CorDA look at data first); nothing
            where a method is only tried on a model without weights.
        tokenizer: the model's.
        model_root: where checkpoints are, for a method that needs another model.
    """

    model: ModelConfig
    task: Task
    total_steps: int
    seed: int
    batches: Callable[[], Iterable[Batch]]
    tokenizer: Any = None
    model_root: str | None = None


class Method:
    """A way of training a model. The base class is a method that changes nothing about the loop."""

    #: Whether anything is trained at all; a baseline says False.
    trains = True

    def __init__(self, config: MethodConfig) -> None:
        """Raises ConfigError for arguments that no adapter of this kind has."""
        self.config = config

    def refusal(self, config: RunConfig) -> str | None:
        """Why this method can't be used in a run, or None if it can. Asked before weights are loaded."""
        model = config.model
        if model.family not in self.config.supports:
            return f"supports {', '.join(self.config.supports)}; {model.name} is of the family {model.family}"
        if config.hardware.gradient_checkpointing and self.config.checkpointing is False:
            return "doesn't work with hardware.gradient_checkpointing=true"
        if config.hardware.strategy == "fsdp":
            if self.config.sharding is False:
                return "needs whole weights while it trains, which hardware.strategy=fsdp shares out"
            if self.config.quantization:
                return "has packed weights, which hardware.strategy=fsdp can't share out"
        return None

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """The model to train, `requires_grad` set on exactly what is trained."""
        raise NotImplementedError

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        """The optimiser; `default` makes the recipe's from parameter groups such as `optim.groups`."""
        return default(parameters.groups(model))

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        """What is minimised; the task's own loss is what is reported in any case."""
        return task_loss

    def prepare_batch(self, batch: Batch) -> Batch:
        """The model's arguments, from those that the task gives it."""
        return batch

    def callbacks(self) -> list[Callback]:
        """Callbacks for the Lightning trainer."""
        return []

    def cycle(self) -> int:
        """Steps in which everything that is trained has had its turn (LISA trains some layers at a time)."""
        return 1

    def may_select(self, step: int) -> bool:
        """Whether the weights after a step may be the ones that are scored (not while a model still shrinks)."""
        return True

    def describe(self, model: nn.Module, tokenizer: Any) -> dict[str, Any]:
        """What a reader wants to know of what was trained, as JSON values by name; kept in the record."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What the method keeps between steps besides weights, buffers and the optimiser's state, for a run that is
        stopped and taken up again: tensors, numbers, text, and lists and dicts of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken; called once the optimiser is built, before its state and the weights are
        put back."""

    def save(self, model: nn.Module, folder: Path) -> None:
        """Keep what was trained, so that the method's own library loads it onto a fresh base."""
        model.save_pretrained(folder)  # type: ignore[operator]

    def merge(self, model: nn.Module) -> nn.Module | None:
        """A copy as a plain model, with the method folded into its weights; None where it can't be."""
        return None
