"""Which step's weights are evaluated."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file, save_file
from torch import nn

from peftbench.schema import DatasetConfig


class SelectBest(Callback):
    """Keeps the trained weights of the best evaluation in a file; the earliest of equals, as fewer steps cost less.

    Args:
        file: where the weights lie while the run lasts.
        maximise: whether a higher score is better.
    """

    def __init__(self, file: Path, *, maximise: bool) -> None:
        self.file, self.maximise = file, maximise
        self.best: float | None = None
        self.step: int | None = None
        self.last: int | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not pl_module.method.may_select(trainer.global_step):
            return
        score = float(trainer.callback_metrics["selection/score"])
        if self.offer(score, trainer.global_step) and trainer.global_step < pl_module.total_steps:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            save_file(_changing(pl_module.model), self.file)

    def offer(self, score: float, step: int) -> bool:
        """Take note of a step's score; whether it is the best so far."""
        self.last = step
        if self.best is not None and (score <= self.best if self.maximise else score >= self.best):
            return False
        self.best, self.step = score, step
        return True

    def restore(self, model: nn.Module, last_step: int) -> int:
        """Put the best weights back; returns the step they are of."""
        if self.step is None or self.step == last_step:
            return last_step
        state = load_file(self.file)
        with torch.no_grad():
            for name, tensor in _changing(model).items():
                tensor.copy_(state[name])
        return self.step


def _changing(model: nn.Module) -> dict[str, torch.Tensor]:
    """What training can change: trained parameters, and buffers, which some adapters prune or count in."""
    trained = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if buffer.numel()}


def maximise(config: DatasetConfig) -> bool:
    """Whether this data set's score is better when higher; its metrics all point the same way."""
    return set(config.metrics.values()) == {"max"}
