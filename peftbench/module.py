"""`FineTuner`: the one LightningModule. Every method and task is trained by this loop."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import nn

from peftbench import optim
from peftbench.backbones import in_head
from peftbench.data.encode import trim
from peftbench.methods.base import Method
from peftbench.schema import RecipeConfig
from peftbench.tasks.base import Batch, Task

#: Steps between looks at the loss; each look waits for the device.
_LOOK = 10


class Diverged(Exception):
    """The loss isn't finite any more."""


class FineTuner(L.LightningModule):
    """Trains a model that a method prepared.

    Optimisation is manual: one call of `training_step` is one global batch, cut into micro batches whose losses are
    weighted by their terms. The step is then the same however the batch is cut, which Lightning's own accumulation
    isn't where micro batches differ in size.

    Args:
        model: what `method.apply` returned.
        micro_batch_size: examples a forward pass; None: the whole batch.
        total_steps: optimiser steps of the run, which the schedule ends at.
        head: names of the task head's modules, which learn at `method.head_lr` where there is one.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Task,
        method: Method,
        recipe: RecipeConfig,
        micro_batch_size: int | None,
        total_steps: int,
        head: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.task, self.method, self.recipe = model, task, method, recipe
        self.micro_batch_size, self.total_steps, self.head = micro_batch_size, total_steps, head
        self._kept: list[dict[str, torch.Tensor]] = []
        self.last_loss: float | None = None

    def forward(self, batch: Batch) -> Any:
        """The model's outputs for a collated batch."""
        return self.model(**self.inputs(batch))

    def inputs(self, batch: Batch) -> Batch:
        """Of a collated batch, what the model is called with."""
        return self.method.prepare_batch(self.task.inputs(batch))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One optimiser step on one global batch."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, L.pytorch.core.optimizer.LightningOptimizer)
        optimizer.zero_grad()
        terms, total = self.task.terms(batch), torch.zeros((), device=self.device)
        for part in self._parts(batch):
            share = self.task.terms(part) / terms
            outputs = self(part)
            task_loss = self.task.losses(outputs, part).mean()
            minimised = self.method.loss(task_loss, outputs, part) * share
            # Lightning runs the whole step under autocast; gradients take the types that the forward pass gave them.
            with torch.autocast(self.device.type, enabled=False):
                self.manual_backward(minimised)
            total += task_loss.detach() * share
        if self.recipe.gradient_clip is not None:
            self.clip_gradients(optimizer, self.recipe.gradient_clip, "norm")  # type: ignore[arg-type]
        optimizer.step()
        scheduler.step()  # type: ignore[union-attr, call-arg]
        self._look(total)

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        size = self.micro_batch_size or len(batch["labels"])
        if size >= len(batch["labels"]):
            yield batch
            return
        for start in range(0, len(batch["labels"]), size):
            yield trim({k: v[start : start + size] for k, v in batch.items()})

    def _look(self, loss: torch.Tensor) -> None:
        step = self.global_step
        if step % _LOOK and step < self.total_steps:
            return
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise Diverged(f"the loss is {self.last_loss} at step {step}")
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        for sink in self.loggers:  # Not `self.log`, which would repeat these numbers until the next look.
            sink.log_metrics({"train/loss": self.last_loss, "train/lr": rate}, step=step)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._kept.append(self.predict(batch))

    def on_validation_epoch_end(self) -> None:
        scores = self.scores(self._kept)
        self._kept = []
        self.log_dict({"selection/score": scores["score"], "selection/loss": scores["loss"]})

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Predictions (n, ...), labels and index (n,) and the summed task loss of a batch."""
        outputs = self(batch)
        losses = self.task.losses(outputs, batch)
        kept = {
            "predictions": self.task.predictions(outputs, batch),
            "labels": batch["labels"],
            "index": batch["index"],
        }
        return {k: v.cpu() for k, v in kept.items()} | {"loss": losses.sum().cpu(), "terms": torch.tensor(len(losses))}

    def scores(self, kept: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
        """`values` by metric, their mean `score`, the mean task `loss` and `n`, from what `predict` gave."""
        predictions, labels = gather(kept, "predictions"), gather(kept, "labels")
        values = self.task.score(predictions, labels)
        loss = float(sum(k["loss"].item() for k in kept) / sum(k["terms"].item() for k in kept))
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} in evaluation at step {self.global_step}")
        return {"values": values, "score": sum(values.values()) / len(values), "loss": loss, "n": len(labels)}

    def configure_optimizers(self) -> Any:
        if not self.method.trains:
            return None
        assert self.method.config.lr is not None
        make = optim.factory(self.recipe, self.method.config.lr)
        head = {id(p) for name, p in self.model.named_parameters() if in_head(name, self.head)}
        rate = self.method.config.head_lr
        optimizer = self.method.optimizer(self.model, lambda groups: make(optim.at_rate(groups, head, rate)))
        return [optimizer], [optim.schedule(optimizer, self.recipe, self.total_steps)]


def gather(kept: list[dict[str, torch.Tensor]], name: str) -> np.ndarray:
    """One field of all batches, in the order of the split's rows."""
    order = torch.cat([k["index"] for k in kept]).argsort()
    return torch.cat([k[name] for k in kept])[order].numpy()
