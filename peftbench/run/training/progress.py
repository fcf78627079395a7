"""Progress of a run as events for the parent process, which draws; the process that trains never does."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import lightning as L
from lightning.pytorch import Callback

from peftbench.system.process_group import Emit

#: Seconds between two events.
_EVERY = 0.1
#: The same while speed is measured, which drawing would disturb.
SELDOM = 1.0

T = TypeVar("T")


def ignored(event: dict[str, Any]) -> None:
    """Takes events that nobody wants."""


class Counted:
    """Emits how many of a phase's batches are done.

    Args:
        total: of so many.
        every_s: seconds between two events.
    """

    def __init__(self, emit: Emit, total: int, *, every_s: float = _EVERY) -> None:
        self._emit, self._total, self._every_s = emit, total, every_s
        self._done, self._last = 0, time.monotonic()

    def of(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, each counted once the next is asked for."""
        for batch in batches:
            yield batch
            self._done += 1
            now = time.monotonic()
            if now - self._last >= self._every_s:
                self._last = now
                self._emit({"event": "progress", "batch": self._done, "batches": self._total})


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
