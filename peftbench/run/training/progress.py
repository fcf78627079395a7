"""Progress of a run as events for the parent process, which draws; the process that trains never does."""

import time
from typing import Any

import lightning as L
from lightning.pytorch import Callback

from peftbench.system.process_group import Emit

#: Seconds between two events.
_EVERY = 0.1


class Reporter(Callback):
    """Emits the step, the last loss that was read and the last selection score."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._last = 0.0
        self._score: float | None = None

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        now = time.monotonic()
        if now - self._last < _EVERY and trainer.global_step < pl_module.total_steps:
            return
        self._last = now
        self._emit(
            {
                "event": "step",
                "step": trainer.global_step,
                "steps": pl_module.total_steps,
                "loss": pl_module.last_loss,
                "score": self._score,
            }
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._score = float(trainer.callback_metrics["selection/score"])
