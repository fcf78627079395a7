"""`FineTuner`: the one LightningModule. Every method and task is trained by this loop."""

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import lightning as L
import torch
from torch import nn

from peftbench.config.types import RecipeConfig
from peftbench.data.batch import Batch
from peftbench.data.encode import Encoded, part, trim
from peftbench.errors import Diverged
from peftbench.methods.base import Method
from peftbench.models import parameters
from peftbench.models.parameters import in_head
from peftbench.run.training import optimizer
from peftbench.run.training.sharding import Shards
from peftbench.system import ranks
from peftbench.tasks.base import Generating, Task

#: Steps between looks at the loss; each look waits for the device.
_LOOK = 10


class FineTuner(L.LightningModule):
    """Trains a model that a method prepared.

    Optimisation is manual: one call of `training_step` is one global batch, cut into micro batches whose losses are
    weighted by their terms. The step is then the same however the batch is cut, which Lightning's own accumulation
    isn't where micro batches differ in size. Of several ranks each takes its part of the global batch, and the
    gradients are added up: not Lightning's mean over ranks, which is another step where parts differ in size.

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
        #: Where the weights are shared out over ranks.
        self.shards: Shards | None = None
        self._kept: list[dict[str, Any]] = []
        self.last_loss: float | None = None
        self._written, self._writing_s = 0, 0.0
        #: What the weights wrote in this pass, by prompt.
        self._said: dict[tuple[int, ...], str] = {}

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
        with ranks.own_draws():
            for micro, weight in self._parts(batch):
                share = weight * self.task.terms(micro) / terms
                outputs = self(micro)
                task_loss = self.task.losses(outputs, micro).mean()
                minimised = self.method.loss(task_loss, outputs, micro) * share
                # Lightning runs the whole step under autocast; gradients take the types that the forward pass gave.
                with torch.autocast(self.device.type, enabled=False):
                    self.manual_backward(minimised)
                total += task_loss.detach() * share
        if self.shards is None:  # Which adds up by itself.
            ranks.sum_gradients(self.model.parameters())
        if self.recipe.gradient_clip is not None:
            # Not Lightning's `clip_gradients`: under mixed precision it refuses fused optimisers, for a scaler's sake.
            stepped = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(stepped, self.recipe.gradient_clip)
        optimizer.step()
        scheduler.step()  # type: ignore[union-attr, call-arg]
        self._look(ranks.total(total))

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, int]]:
        """This rank's micro batches with weight 1: as many on each rank, where need be one example of weight 0."""
        count = len(batch["labels"])
        mine, size = ranks.share(count), self.micro_batch_size or count
        if ranks.world() == 1 and size >= count:
            yield batch, 1
            return
        for start in range(mine.start, mine.start + -(-count // ranks.world()), size):
            stop = min(start + size, mine.stop)
            yield (part(batch, start, stop), 1) if start < stop else (part(batch, 0, 1), 0)

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
        if ranks.takes(batch_idx):
            self._kept.append(self.predict(batch))

    def on_validation_epoch_end(self) -> None:
        scores = self.scores(ranks.interleaved(self._kept), self.trainer.val_dataloaders.dataset)  # type: ignore[union-attr]
        self._kept = []
        if self.shards is not None:
            self.model = self.shards.model
        self.log_dict({"selection/score": scores["score"], "selection/loss": scores["loss"]})

    def predict(self, batch: Batch) -> dict[str, Any]:
        """Predictions, (n, ...) or n texts, index (n,), and the summed task loss of a batch with its terms."""
        outputs = self(batch)
        losses = self.task.losses(outputs, batch)
        answers = self._texts(batch) if self.task.generates else self.task.predictions(outputs, batch).cpu()
        kept = {"predictions": answers, "index": batch["index"].cpu()}
        return {**kept, "loss": losses.sum().cpu(), "terms": torch.tensor(len(losses))}

    def _texts(self, batch: Batch) -> list[str]:
        """What is written for every example: once a prompt, which comes as often as it has right answers in rows of
        their own."""
        lines = zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
        asked = [tuple(ids[mask].tolist()) for ids, mask in lines]
        new = {prompt: row for row, prompt in enumerate(asked) if prompt not in self._said}
        if new:
            rows = list(new.values())
            written = self.write(trim({name: batch[name][rows] for name in ("input_ids", "attention_mask")}))
            self._said |= dict(zip(new, written, strict=True))
        return [self._said[prompt] for prompt in asked]

    def clear_generations(self) -> None:
        """Forget the texts that were written. Call before each evaluation pass: the weights have changed."""
        self._said = {}

    def on_validation_epoch_start(self) -> None:
        if self.shards is not None:
            # Each rank scores batches of its own, and writes texts of their own lengths: not in step.
            self.model = self.shards.whole().eval()
        self.clear_generations()

    def unshard(self) -> None:
        """Gather weights that FSDP shares out into a plain model, once training has ended."""
        if self.shards is not None:
            self.model, self.shards = self.shards.whole(), None

    def write(self, batch: Batch) -> list[str]:
        """The texts that the model writes, of a task that generates."""
        task = cast(Generating, self.task)
        inputs = self.method.prepare_batch(task.prompt(batch))
        start = time.perf_counter()
        ids = self.model.generate(**inputs, **task.generation)  # type: ignore[operator]
        texts: list[str] = task.decode(ids, batch)  # Which waits for the device.
        self._writing_s += time.perf_counter() - start
        self._written += task.written(ids, batch)
        return texts

    def writing(self) -> dict[str, float]:
        """How fast the texts were written, of a task that generates: all that this process scored."""
        return {"inference_generated_tokens_per_s": self._written / self._writing_s} if self._writing_s else {}

    def scores(self, kept: list[dict[str, Any]], examples: Encoded) -> dict[str, Any]:
        """`values` by metric, their mean `score`, the mean task `loss` and `n`, from what `predict` gave of all
        examples. Null where their labels are hidden."""
        found: dict[str, Any] = {"n": len(examples), "truncated": examples.truncated}
        if examples.hidden:
            return {"values": dict.fromkeys(self.task.metrics), "score": None, "loss": None, **found}
        loss = float(sum(k["loss"].item() for k in kept) / sum(k["terms"].item() for k in kept))
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} in evaluation at step {self.global_step}")
        values = self.task.score(gather(kept), examples)
        return {"values": values, "score": sum(values.values()) / len(values), "loss": loss, **found}

    def configure_optimizers(self) -> Any:
        if not self.method.trains:
            return None
        assert self.method.config.lr is not None
        mesh = None if self.shards is None else self.shards.mesh
        make = optimizer.factory(self.recipe, self.method.config.lr, mesh)
        head = {id(p) for name, p in self.model.named_parameters() if in_head(name, self.head)}
        rate = self.method.config.head_lr
        made = self.method.optimizer(self.model, lambda groups: make(parameters.at_rate(groups, head, rate)))
        return [made], [optimizer.schedule(made, self.recipe, self.total_steps)]


def gather(kept: list[dict[str, Any]]) -> Any:
    """The predictions of all batches in the order of the examples: an array (n, ...), -inf where some have fewer
    columns than others, or a list of texts."""
    order = torch.cat([k["index"] for k in kept]).argsort()
    parts = [k["predictions"] for k in kept]
    if isinstance(parts[0], list):
        texts = [text for part in parts for text in part]
        return [texts[i] for i in order.tolist()]
    widest = max(part.shape[1] for part in parts)
    padded = [torch.nn.functional.pad(p, (0, widest - p.shape[1]), value=-math.inf) for p in parts]
    return torch.cat(padded)[order].numpy()
