"""`FineTuner`: the one LightningModule. Every method and task is trained by this loop."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import nn

from peftbench.config.types import RecipeConfig
from peftbench.data.batch import Arguments, Batch, moved, part, trim
from peftbench.data.encode import Encoded
from peftbench.errors import Diverged
from peftbench.methods.base import Method
from peftbench.models import causal, parameters
from peftbench.models.parameters import in_head
from peftbench.run.training import optimizer
from peftbench.run.training.sharding import Shards
from peftbench.system import ranks
from peftbench.tasks.base import Generating, Task

#: Steps between readings of the loss: each waits for the device.
_LOOK = 10


class FineTuner(L.LightningModule):
    """Trains a model that a method prepared.

    Optimisation is manual: one call of `training_step` is one global batch, cut into micro batches whose losses are
    weighted by their terms. The step is then the same however the batch is cut; with Lightning's own accumulation it
    would be another where micro batches differ in size. Each rank takes its share of the global batch, and gradients
    are added up: Lightning's mean over ranks would be another step where shares differ in size.

    Args:
        model: what `method.apply` returned.
        micro_batch_size: examples of a forward pass; None: the whole batch.
        total_steps: optimiser steps of the run, at whose end the schedule ends.
        head: names of the task head's modules, which learn at `method.head_lr` if that is set.
        class_weights: (classes,) weights of an example's training loss by its label; None: all weigh 1.

    Attributes:
        shards: the sharded model; None: weights aren't sharded.
        last_loss: the training loss as it was last read.
        answers: what `predict` returned in the last validation pass, of all ranks; `selected_answers`: in that of the
            step whose weights are in the model; None: not known.
        step_loss: the training loss of the last step, on its device; `step_lr`: the rate that it was made with.
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
        class_weights: torch.Tensor | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.task, self.method, self.recipe = model, task, method, recipe
        self.micro_batch_size, self.total_steps, self.head = micro_batch_size, total_steps, head
        self.class_weights = class_weights
        needless = {"logits_to_keep": not causal.takes(model, "logits_to_keep")}
        needless["attention_mask"] = causal.is_causal(model) and not method.needs_mask(model)
        #: Arguments of a task that the model isn't called with.
        self._needless = [name for name, is_needless in needless.items() if is_needless]
        #: Keys and values of every layer are for writing, which `generate` asks for itself; models keep them unasked.
        self._always = {"use_cache": False} if causal.takes(model, "use_cache") else {}
        self.shards: Shards | None = None
        #: What `predict` returned in the present validation pass.
        self._predicted: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] | None = None
        self.selected_answers: list[dict[str, Any]] | None = None
        self.last_loss: float | None = None
        self.step_loss: torch.Tensor | None = None
        self.step_lr: float | None = None
        #: Tokens that were generated, and the seconds that it took.
        self._written, self._writing_s = 0, 0.0
        #: By prompt (part of a mixture, token ids) the text that was generated in the present evaluation pass.
        self._generations: dict[tuple[int, ...], str] = {}

    def forward(self, batch: Batch) -> Any:
        """The model's outputs for a collated batch."""
        return self.model(**self.inputs(batch))

    def inputs(self, batch: Batch) -> Arguments:
        """The arguments that the model is called with for a collated batch."""
        arguments = self.task.inputs(batch)
        if self.task.generates and self.method.needs_answer_places(self.model):
            arguments["answer_places"] = cast(Generating, self.task).answer_places(batch)
        arguments = {k: v for k, v in arguments.items() if k not in self._needless}
        return self.method.prepare_batch(arguments | self._always)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch on the device, but for what is read on the host."""
        return moved(batch, device)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """One optimiser step on one global batch."""
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer)
        self.step_lr = optimizer.param_groups[0]["lr"]
        self.step_loss = ranks.total(self.step(batch, optimizer, scheduler))
        self._look(self.step_loss)

    def step(self, batch: Batch, optimizer: Any, scheduler: Any) -> torch.Tensor:
        """Make one optimiser step on one global batch, of which this rank takes its share; returns its share of the
        task's loss."""
        optimizer.zero_grad()
        total = self.accumulate(batch, self.manual_backward)
        self.clip(optimizer)
        optimizer.step()
        scheduler.step()
        return total

    def accumulate(self, batch: Batch, backward: Callable[[torch.Tensor], None]) -> torch.Tensor:
        """Add up the gradients of one global batch, in micro batches; the detached loss of this rank's share.

        Args:
            backward: computes the gradients of a loss.
        """
        terms, total = self.task.terms(batch), torch.zeros((), device=self.device)
        with ranks.own_draws():
            for micro, weight in self.micro_batches(batch):
                share = weight * self.task.terms(micro) / terms
                outputs = self(micro)
                task_loss = self._weighted(self.task.losses(outputs, micro), micro).mean()
                minimised = self.method.loss(task_loss, outputs, micro) * share
                # Lightning runs the whole step under autocast; gradients take the types that the forward pass gave.
                with torch.autocast(self.device.type, enabled=False):
                    backward(minimised)
                total = total + task_loss.detach() * share
        if self.shards is None:  # FSDP adds gradients up by itself.
            ranks.sum_gradients(self.model.parameters())
        return total

    def clip(self, optimizer: torch.optim.Optimizer | LightningOptimizer) -> None:
        """Scale the gradient down to `recipe.gradient_clip` where it is longer."""
        if self.recipe.gradient_clip is not None:
            # Not Lightning's `clip_gradients`: under mixed precision it refuses fused optimisers, for a scaler's sake.
            stepped = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(stepped, self.recipe.gradient_clip)

    def _weighted(self, losses: torch.Tensor, batch: Batch) -> torch.Tensor:
        """(n,) losses of examples in training, each times the weight of its class."""
        if self.class_weights is None:
            return losses
        return losses * self.class_weights.to(losses.device)[batch["labels"]]

    def micro_batches(self, batch: Batch) -> Iterator[tuple[Batch, int]]:
        """This rank's micro batches with weight 1. All ranks have as many, since all take part in every pass: one with
        too few examples adds an example of weight 0."""
        count = len(batch["labels"])
        mine, size = ranks.share(count), self.micro_batch_size or count
        if ranks.world() == 1 and size >= count:
            yield batch, 1
            return
        for start in range(mine.start, mine.start + -(-count // ranks.world()), size):
            stop = min(start + size, mine.stop)
            yield (part(batch, start, stop), 1) if start < stop else (part(batch, 0, 1), 0)

    def _look(self, loss: torch.Tensor) -> None:
        """Read the loss every few steps, and log it.

        Raises:
            Diverged: it isn't finite.
        """
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
            self._predicted.append(self.predict(batch))

    def on_validation_epoch_end(self) -> None:
        self.answers, self._predicted = ranks.interleaved(self._predicted), []
        scores = self.scores(self.answers, self.trainer.val_dataloaders.dataset)  # type: ignore[union-attr]
        if self.shards is not None:
            self.model = self.shards.model
        self.log_dict({"selection/score": scores["score"], "selection/loss": scores["loss"]})

    def predict(self, batch: Batch) -> dict[str, Any]:
        """The answers to a batch of n examples: `predictions` (n, ...) or n texts, `index` (n,), and the sum `loss` of
        the task's losses with the number of its `terms`."""
        outputs = self(batch)
        losses = self.task.losses(outputs, batch)
        scored = {"loss": losses.sum().cpu(), "terms": torch.tensor(len(losses)), "index": batch["index"].cpu()}
        if self.task.generates:
            del outputs, losses  # Logits of whole texts, which would lie there while others are written.
            return {**scored, "predictions": self._texts(batch)}
        return {**scored, "predictions": self.task.predictions(outputs, batch).cpu()}

    def _texts(self, batch: Batch) -> list[str]:
        """The generated text of every example. A prompt is answered once, though each of its right answers may be a row
        of its own."""
        rows_of_ids = zip(batch["input_ids"].cpu(), batch["attention_mask"].bool().cpu(), strict=True)
        parts = batch["part"].tolist() if "part" in batch else [0] * len(batch["input_ids"])
        # A part of a mixture has its own length and beams: what is written at once is of one part.
        prompts = [(number, *ids[mask].tolist()) for number, (ids, mask) in zip(parts, rows_of_ids, strict=True)]
        new = {prompt: row for row, prompt in enumerate(prompts) if prompt not in self._generations}
        for number in sorted({prompt[0] for prompt in new}):
            rows = [row for prompt, row in new.items() if prompt[0] == number]
            asked = trim({name: batch[name][rows] for name in ("input_ids", "attention_mask", "part") if name in batch})
            self._generations |= dict(zip((prompts[row] for row in rows), self.write(asked), strict=True))
        return [self._generations[prompt] for prompt in prompts]

    def clear_generations(self) -> None:
        """Clear cached generations. Call before each evaluation pass: the weights have changed."""
        self._generations = {}

    def on_validation_epoch_start(self) -> None:
        if self.shards is not None:
            # Ranks score different batches and generate texts of different lengths; FSDP needs them in step.
            self.model = self.shards.whole().eval()
        self.clear_generations()

    def unshard(self) -> None:
        """Gather FSDP-sharded weights into a plain model, once training has ended."""
        if self.shards is not None:
            self.model, self.shards = self.shards.whole(), None

    def write(self, batch: Batch) -> list[str]:
        """The texts that the model generates for a batch, of a mixture for examples of one part; for tasks that
        generate."""
        task = cast(Generating, self.task)
        inputs = self.method.prepare_batch(task.prompt(batch))
        generation = task.generation_of(int(batch["part"][0]) if "part" in batch else 0)
        start = time.perf_counter()
        ids = self.model.generate(**inputs, **generation)  # type: ignore[operator]
        texts: list[str] = task.decode(ids, batch)  # This waits for the device.
        self._writing_s += time.perf_counter() - start
        self._written += task.written(ids, batch)
        return texts

    def writing(self) -> dict[str, float]:
        """The speed at which this process generated texts, by its name in a record's `efficiency`; empty if it
        didn't."""
        return {"inference_generated_tokens_per_s": self._written / self._writing_s} if self._writing_s else {}

    def scores(self, predicted: list[dict[str, Any]], examples: Encoded) -> dict[str, Any]:
        """`values` by metric, their mean `score`, the mean task `loss`, `n` examples and how many were `truncated`.
        Nulls where labels are hidden.

        Args:
            predicted: what `predict` returned for the batches of all examples.

        Raises:
            Diverged: the loss isn't finite.
        """
        sizes: dict[str, Any] = {"n": len(examples), "truncated": examples.truncated}
        if examples.hidden:
            return {"values": dict.fromkeys(self.task.metrics), "score": None, "loss": None, **sizes}
        loss = float(sum(k["loss"].item() for k in predicted) / sum(k["terms"].item() for k in predicted))
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} in evaluation at step {self.global_step}")
        values = self.task.score(gather(predicted), examples)
        return {"values": values, "score": sum(values.values()) / len(values), "loss": loss, **sizes}

    def configure_optimizers(self) -> Any:
        if not self.method.trains:
            return None
        assert self.method.config.lr is not None
        mesh = None if self.shards is None else self.shards.mesh
        make = optimizer.factory(self.recipe, self.method.config.lr, mesh)
        head = {id(p) for name, p in self.model.named_parameters() if in_head(name, self.head)}
        rate = self.method.config.head_lr
        built = self.method.optimizer(self.model, lambda groups: make(parameters.at_rate(groups, head, rate)))
        return [built], [optimizer.schedule(built, self.recipe, self.total_steps)]


def gather(predicted: list[dict[str, Any]]) -> Any:
    """The predictions of all n examples in their order: a list of texts, or an array (n, ...), filled up by -inf where
    a batch has fewer columns than another."""
    order = torch.cat([k["index"] for k in predicted]).argsort()
    batches = [k["predictions"] for k in predicted]
    if isinstance(batches[0], list):
        texts = [text for batch in batches for text in batch]
        return [texts[i] for i in order.tolist()]
    widest = max(batch.shape[1] for batch in batches)
    padded = [nn.functional.pad(batch, (0, widest - batch.shape[1]), value=-math.inf) for batch in batches]
    return torch.cat(padded)[order].numpy()
