"""Model selection: the step whose weights are evaluated, and what is kept of it meanwhile."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback
from safetensors.torch import load_file, save_file
from torch import nn

from peftbench.config.dataset_types import DatasetConfig
from peftbench.run.training.sharding import saved
from peftbench.system import files, ranks

_log = logging.getLogger(__name__)

#: What of a selection a saved state holds, besides the weights.
_NOTED = ("best", "step", "last", "last_score", "evaluations", "waited")


class SelectBest(Callback):
    """Keeps the trained weights of the best evaluation in a file; the earliest of equals, as fewer steps cost less.

    Args:
        folder: the run's own, in which the weights lie while it lasts, in a file named by their step.
        maximise: whether a higher score is better.
        patience: training ends after so many evaluations in a row without a better one; None: it doesn't.

    Attributes:
        best: the best score so far; `step`: its step.
        answers: those that the best score is of; None after a stop, which doesn't keep them.
        last: the step of the last score; `last_score`: that score.
        evaluations: how many scores there were to select between; `waited`: how many since the best.
    """

    def __init__(self, folder: Path, *, maximise: bool, patience: int | None = None) -> None:
        self.folder, self.maximise, self.patience = folder, maximise, patience
        self.best: float | None = None
        self.step: int | None = None
        self.last: int | None = None
        self.last_score: float | None = None
        self.evaluations = self.waited = 0
        self.answers: list[dict[str, Any]] | None = None
        #: The best weights while they aren't in the file yet: until it is written, or since the disk didn't take them.
        self._unwritten: dict[str, torch.Tensor] | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not pl_module.method.may_select(trainer.global_step):
            return
        score = float(trainer.callback_metrics["selection/score"])
        better = self.offer(score, trainer.global_step, pl_module.answers)
        if self.patience is not None and self.waited >= self.patience:
            trainer.should_stop = True
        if better and trainer.global_step < pl_module.total_steps:
            weights = changing(pl_module.model)
            if not ranks.is_first():
                return
            self._unwritten = weights
            try:
                self.write()
            except OSError as error:
                _log.warning("the selected weights stay in memory: they can't be written (%s)", error)
                self._unwritten = {name: tensor.cpu().clone() for name, tensor in self._unwritten.items()}

    def offer(self, score: float, step: int, answers: list[dict[str, Any]] | None = None) -> bool:
        """Note a step's score, and the answers that it is of. True if it is the best so far."""
        self.last, self.last_score, self.evaluations = step, score, self.evaluations + 1
        if self.best is not None and (score <= self.best if self.maximise else score >= self.best):
            self.waited += 1
            return False
        self.best, self.step, self.waited, self.answers = score, step, 0, answers
        return True

    def write(self) -> None:
        """Write the best weights, if they aren't written yet. Raises OSError if the disk doesn't take them."""
        if self._unwritten is not None:
            weights = self._unwritten
            files.write(self._file, lambda temporary: save_file(weights, temporary))
            self._unwritten = None

    def restore(self, model: nn.Module, last_step: int) -> int:
        """Put the best weights back into the model; returns their step."""
        if self.step is None or self.step == last_step:
            return last_step
        state: dict[str, torch.Tensor] = {}
        if ranks.is_first():
            state = load_file(self._file) if self._unwritten is None else self._unwritten
        with torch.no_grad():
            for name, tensor in changing(model).items():
                if ranks.is_first():
                    tensor.copy_(state[name])
                ranks.spread(tensor)
        return self.step

    @property
    def _file(self) -> Path:
        return self.folder / f"selected-{self.step}.safetensors"

    def forget_others(self) -> None:
        """Delete superseded best weights. Call only after a state that names the new best is on disk: a resume from the
        old state still needs them."""
        for file in self.folder.glob("selected-*.safetensors"):
            if file != self._file:
                file.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _NOTED}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name in _NOTED:
            setattr(self, name, state_dict.get(name, getattr(self, name)))

    def outcome(self) -> dict[str, float | int | None] | None:
        """A record's `selection`: None where there was nothing to select between."""
        if not self.evaluations:
            return None
        last = {"last_score": self.last_score, "last_step": self.last}
        return {"score": self.best, **last, "evaluations": self.evaluations}


def changing(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that training can change, by name: trained parameters, and buffers, in which some adapters prune or
    count. All ranks must call it where weights are sharded; the first gets them whole."""
    trained = {name: saved(p.data) for name, p in model.named_parameters() if p.requires_grad}
    return trained | {name: buffer for name, buffer in model.named_buffers() if buffer.numel()}


def maximise(config: DatasetConfig) -> bool:
    """True if a higher score is better on this data set, whose metrics all point the same way."""
    return set(config.metrics.values()) == {"max"}
