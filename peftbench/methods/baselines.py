"""Baselines that train nothing: the floor under every score."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from peftbench.methods.base import Context, Method


class ZeroShot(Method):
    """The model as it comes, with its new head at random where it has one."""

    trains = False

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return model.requires_grad_(False)

    def save(self, model: nn.Module, folder: Path) -> None:
        """There is nothing to keep."""


class Majority(ZeroShot):
    """Always the commonest class of the training examples; the model isn't looked at."""

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        counts = torch.zeros(context.task.model_args["num_labels"])
        for batch in context.batches():
            counts += torch.bincount(batch["labels"], minlength=len(counts))
        return ConstantModel(counts)


class ConstantModel(nn.Module):
    """The log frequencies of the classes, (n, labels), whatever the input."""

    logits: torch.Tensor

    def __init__(self, counts: torch.Tensor) -> None:
        super().__init__()
        # +1 (Laplace): a class that training lacks is unlikely, not impossible, and its loss stays finite.
        self.register_buffer("logits", ((counts + 1) / (counts + 1).sum()).log())

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.logits.expand(len(input_ids), -1))
