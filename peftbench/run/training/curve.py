"""Notes the learning curve of a run while it trains."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

from peftbench.data.batch import Batch
from peftbench.results import curves
from peftbench.results.curves import Point


class Curve(Callback):
    """Takes a point every few steps, as many as a curve may have, and one at each evaluation. Reads numbers alone: what
    is trained doesn't depend on it.

    Args:
        steps: optimiser steps of the whole run.
    """

    def __init__(self, steps: int) -> None:
        self._every = max(1, -(-steps // curves.MOST))
        self._steps = steps
        #: By point its step, rate, mean loss and score.
        self._points: list[dict[str, Any]] = []
        #: Sum of the losses since the last point, on their device, and their number.
        self._sum: torch.Tensor | None = None
        self._count = 0
        self._lr: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        loss = pl_module.step_loss
        self._sum = loss if self._sum is None else self._sum + loss
        self._count += 1
        self._lr = pl_module.step_lr
        if trainer.global_step % self._every == 0 or trainer.global_step >= self._steps:
            self._take(trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.score(trainer.global_step, float(trainer.callback_metrics["selection/score"]))

    def score(self, step: int, score: float) -> None:
        """Note the selection score after a step, which must be the last that was made."""
        if not self._points or self._points[-1]["step"] != step:
            self._take(step)
        self._points[-1]["selection_score"] = score

    def scores(self) -> list[tuple[int, float]]:
        """The selection scores so far, by step."""
        scored = ((point["step"], point["selection_score"]) for point in self._points)
        return [(step, score) for step, score in scored if score is not None]

    def _take(self, step: int) -> None:
        """Add a point. Reading the loss waits for the device."""
        assert self._sum is not None
        mean = self._sum.item() / self._count
        self._points.append({"step": step, "lr": self._lr, "loss": mean, "selection_score": None})
        self._sum, self._count = None, 0

    def points(self, steps_s: Sequence[float], samples: Sequence[int], *, selected: int | None) -> list[Point]:
        """The curve so far.

        Args:
            steps_s, samples: by step its seconds and its examples.
            selected: the step that was selected, whose evaluation stays.
        """
        seconds, examples = list(accumulate(steps_s)), list(accumulate(samples))
        points = [
            Point(
                step=point["step"],
                examples=examples[point["step"] - 1],
                seconds=seconds[point["step"] - 1],
                lr=point["lr"],
                loss=point["loss"],
                selection_score=point["selection_score"],
            )
            for point in self._points
        ]
        return curves.thinned(points, always=selected, most=curves.MOST)

    def state_dict(self) -> dict[str, Any]:
        """The state that a run needs to go on with its curve in another process."""
        losses = None if self._sum is None else self._sum.item()
        return {"points": self._points, "sum": losses, "count": self._count, "lr": self._lr}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        losses = state_dict["sum"]
        self._points = state_dict["points"]
        self._sum = None if losses is None else torch.tensor(losses)
        self._count, self._lr = state_dict["count"], state_dict["lr"]
