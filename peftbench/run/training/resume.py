"""Checkpoints of a run that was stopped: its state is written to a file between two steps, and put back to go on.

On the same CPU the run then ends with the same bits as one that was never stopped. A state holds weights, optimiser,
schedule, place in the data, every source of random numbers, selection, measurements, and the method's own state.
"""

import logging
import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.errors import Interrupted
from peftbench.run.training import sharding
from peftbench.run.training.curve import Curve
from peftbench.run.training.lightning_compat import set_step
from peftbench.run.training.meter import Meter, PeakMemory
from peftbench.run.training.selection import SelectBest, changing
from peftbench.run.training.tuner import FineTuner
from peftbench.system import files, ranks, stop

_log = logging.getLogger(__name__)

#: The file's name in a run's folder, and the version of its layout.
_FILE, _LAYOUT = "state.pt", 3
#: A state is saved again only after this many times the seconds that saving took: it costs a twentieth at most.
_SHARE = 20


class RunState(Callback):
    """Saves the state of a run every `every_s` seconds and on SIGTERM, and puts it back.

    Must be the first callback: a state is taken before any other callback has acted on the step, and after a resume
    they act on it again.

    Args:
        folder: the run's own, in which the selected weights lie too.
        code: versions of everything that computes (JSON): a state of other versions isn't used.
        every_s: seconds between saved states; 0: after every step, whatever that costs; None: only on SIGTERM and at
            the end of training.

    Attributes:
        step: the step that this process starts from; 0: the beginning.
        resumed: the steps at which the run was taken up again.
        ended: whether training had ended at `step`: the state that was read has no optimiser any more.
    """

    def __init__(
        self,
        folder: Path,
        *,
        code: dict[str, Any],
        every_s: float | None,
        select: SelectBest,
        meter: Meter,
        memory: PeakMemory,
        curve: Curve,
    ) -> None:
        self._file, self.code, self._every_s = folder / _FILE, code, every_s
        self._select, self._meter, self._curve, self.memory = select, meter, curve, memory
        self._last = time.monotonic()
        self._cost_s = 0.0
        self._flags = ranks.Flags()
        #: The state that was read, until all of it is put back.
        self._state_read: dict[str, Any] | None = None
        self.step = 0
        self.resumed: list[int] = []
        self.ended = False

    def read(self, total_steps: int) -> None:
        """Read the saved state, if there is one. One that can't be read, or is of other code, is logged and not used.

        Raises:
            RuntimeError: one rank can't read what another can.
        """
        self._look_for(total_steps)
        if len(set(ranks.gathered(self.step))) > 1:
            raise RuntimeError("the ranks don't read the same state")

    def _look_for(self, total_steps: int) -> None:
        if not self._file.is_file():
            return
        try:
            # Each rank needs a part of it: `mmap` reads a tensor only where it is looked at.
            several = ranks.world() > 1
            state = torch.load(self._file, map_location="cpu", weights_only=True, mmap=several)
        except Exception as error:  # Whatever is wrong with the file, the run can be made without it.
            _log.warning("the saved state can't be read (%s); the run starts afresh", error)
            return
        for name, now in {"layout": _LAYOUT, "total_steps": total_steps, "code": self.code}.items():
            if state.get(name) != now:
                _log.warning("the saved state is of another %s (%s); the run starts afresh", name, state.get(name))
                return
        self._state_read, self.step, self.ended = state, state["step"], "optimizer" not in state
        self.resumed = [*state["resumed"], self.step]
        _log.info("going on from step %d of %d", self.step, total_steps)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._last = time.monotonic()
        if self._state_read is not None:
            set_step(trainer, self.step)
            self.restore(pl_module, trainer)

    def restore(self, tuner: FineTuner, trainer: L.Trainer | None) -> None:
        """Put everything back but the random states, which are drawn from until the first step begins.

        Args:
            trainer: None if training had ended: there is no optimiser any more.
        """
        assert self._state_read is not None
        state = self._state_read
        tuner.method.load_state_dict(state["method"])
        load_weights(tuner.model, state["weights"], trained=state["trained"])
        if trainer is not None:
            optimizer = trainer.optimizers[0]
            optimizer.load_state_dict(sharding.shared_state(optimizer, state["optimizer"]))
            trainer.lr_scheduler_configs[0].scheduler.load_state_dict(state["scheduler"])
        self._select.load_state_dict(state["select"])
        self._meter.load_state_dict(state["meter"])
        self._curve.load_state_dict(state["curve"])
        self.memory.load_state_dict(state["memory"][ranks.rank()])

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._state_read is not None:
            _set_random(self._state_read["random"])
            self._state_read = None
        # Signals reach ranks at different moments, and their clocks differ: one that is asked or due is enough.
        asked, due = self._flags.exchange(stop.asked(), self._due())
        if asked:
            saved = trainer.global_step > self.step and self.save(pl_module, trainer, trainer.global_step)
            where = f"step {trainer.global_step} of {pl_module.total_steps}"
            raise Interrupted(f"stopped at {where}" + ("; goes on from there" if saved else ""))
        if due and trainer.global_step > self.step:
            self.save(pl_module, trainer, trainer.global_step)
            if self._every_s:  # By then the next was due too.
                self._flags.clear()

    def _due(self) -> bool:
        """True if it is time for a state by this rank's clock."""
        waited = time.monotonic() - self._last
        return self._every_s is not None and waited >= max(self._every_s, _SHARE * self._cost_s if self._every_s else 0)

    def save(self, tuner: FineTuner, trainer: L.Trainer | None, step: int) -> bool:
        """Write the state after `step` steps, whole or not at all. Rank 0 writes; all ranks must call it.

        Args:
            trainer: None when training has ended.

        Returns:
            True if it was written. A full disk costs the run nothing but the state.
        """
        self._meter.pause()
        try:
            state = self._state(tuner, trainer, step)
            return ranks.told(ranks.is_first() and self._write(state, step))
        finally:
            self._cost_s, self._last = self._meter.go_on(), time.monotonic()

    def _write(self, state: dict[str, Any], step: int) -> bool:
        try:
            self._select.write()
            files.write(self._file, lambda temporary: torch.save(state, temporary))
            self._select.forget_others()
        except OSError as error:
            _log.warning("the state at step %d can't be saved (%s)", step, error)
            return False
        return True

    def _state(self, tuner: FineTuner, trainer: L.Trainer | None, step: int) -> dict[str, Any]:
        optimizers = [] if trainer is None else trainer.optimizers
        running = (
            {}
            if trainer is None
            else {
                "optimizer": sharding.saved(optimizers[0].state_dict()),
                "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
                "random": _random(),
            }
        )
        return {
            "layout": _LAYOUT,
            "code": self.code,
            "step": step,
            "total_steps": tuner.total_steps,
            "resumed": self.resumed,
            "weights": _weights(tuner.model, optimizers),
            "trained": [name for name, p in tuner.model.named_parameters() if p.requires_grad],
            "method": tuner.method.state_dict(),
            "select": self._select.state_dict(),
            "meter": self._meter.state_dict(),
            "curve": self._curve.state_dict(),
            "memory": ranks.gathered(self.memory.state_dict()),
            **running,
        }


def _weights(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, torch.Tensor]:
    """The weights that training may have changed, by name: also those that are in the optimiser but frozen now."""
    stepped = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    weights = changing(model)
    rest = [(name, p.data) for name, p in model.named_parameters() if id(p) in stepped and name not in weights]
    return weights | {name: sharding.saved(weight) for name, weight in rest}


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], *, trained: list[str]) -> None:
    """Copy weights into a model, in place, and let exactly the parameters named `trained` have gradients."""
    targets = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in weights.items():
            sharding.put(targets[name], tensor)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad != (name in trained):
            parameter.requires_grad_(name in trained)


def _random() -> dict[str, Any]:
    """The state of every random number generator: Python's, numpy's, torch's and each GPU's."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(float, rest)),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random(state: dict[str, Any]) -> None:
    """Put back what `_random` took."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), cached))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
