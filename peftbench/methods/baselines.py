"""Baselines that train nothing: the floor under every score."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from peftbench.config.types import RunConfig
from peftbench.methods.base import Context, Method


class ZeroShot(Method):
    """The model as it comes, with its new head at random where it has one."""

    trains = False

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Saves nothing: there is nothing to keep."""


class Majority(ZeroShot):
    """The commonest class of the training examples, or their mean number, always; the model isn't looked at."""

    def refusal(self, config: RunConfig) -> str | None:
        if config.dataset.labels is None and config.dataset.task != "regression":
            return f"{config.dataset.task} has no classes, so none is the commonest"
        return super().refusal(config)

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        labels = torch.cat([batch["labels"] for batch in context.batches()])
        if labels.is_floating_point():
            return ConstantModel(labels.mean()[None])
        # +1 (Laplace): a class that training lacks is unlikely, not impossible, and its loss stays finite.
        counts = torch.bincount(labels, minlength=context.task.model_args["num_labels"]) + 1
        return ConstantModel((counts / counts.sum()).log())


class ConstantModel(nn.Module):
    """The same logits, (outputs,), whatever the input: log frequencies of the classes, or a number."""

    logits: torch.Tensor

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("logits", logits)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.logits.expand(len(input_ids), -1))
