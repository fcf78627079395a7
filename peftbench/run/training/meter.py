"""Time and memory of a run, as docs/measures.md defines them."""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

from peftbench.data.batch import Batch
from peftbench.data.encode import tokens

#: Steps that rates leave out: the first ones fill caches, start workers and compile.
WARM_UP = 3


class Memory:
    """Peak memory of training in this process, in bytes.

    CPU: the kernel's high-water mark of resident memory (VmHWM) since `reset`, less what was resident at construction.
    So it leaves the imports out, includes model, data and training, and can't miss a spike. CUDA: torch's allocator.
    None where the kernel has no such figure (not Linux).
    """

    def __init__(self) -> None:
        self._at_start = _status("VmRSS")
        #: Peaks of the processes that the run was stopped in.
        self._before: dict[str, int | None] = {}

    def reset(self) -> None:
        """Forget the peak so far: it is tokenising's, and a data set in the cache wouldn't have it."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._at_start = None
        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> dict[str, int | None]:
        """`peak_memory_bytes`, and `peak_memory_reserved_bytes` by the allocator (CUDA). Of a run that was stopped and
        taken up again: the peak of the process that needed the most."""
        return {
            name: max((x for x in (now, self._before.get(name)) if x is not None), default=None)
            for name, now in self._now().items()
        }

    def state_dict(self) -> dict[str, int | None]:
        """The peak so far, for a run that may go on in another process."""
        return self.peak()

    def load_state_dict(self, state: dict[str, int | None]) -> None:
        """Take the peak of the process before this one into account."""
        self._before = state

    def _now(self) -> dict[str, int | None]:
        """This process's peak."""
        if torch.cuda.is_initialized():
            return {
                "peak_memory_bytes": torch.cuda.max_memory_allocated(),
                "peak_memory_reserved_bytes": torch.cuda.max_memory_reserved(),
            }
        peak = _status("VmHWM")
        used = None if self._at_start is None or peak is None else peak - self._at_start
        return {"peak_memory_bytes": used, "peak_memory_reserved_bytes": None}


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/<pid>/status, which is in kB; None where there is none."""
    try:
        lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


class Meter(Callback):
    """Times optimiser steps, data loading included; evaluation, and what other callbacks do around it, excluded.

    Must be the last callback, so that its clock starts again after the others are done.
    """

    def __init__(self) -> None:
        self.steps_s: list[float] = []
        self.evaluation_s = 0.0
        self.samples: list[int] = []
        self._tokens: list[tuple[torch.Tensor | int, int]] = []
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._since = _now()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        # CUDA runs behind: wait for it only where the figures are cut.
        first, last = len(self.steps_s) < WARM_UP, trainer.global_step >= pl_module.total_steps
        now = _now() if first or last else time.perf_counter()
        self.steps_s.append(now - self._since)
        self._since = now
        self.samples.append(len(batch["labels"]))
        # Not read here: on CUDA that would wait for the step.
        self._tokens.append(tokens(batch))

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._paused = _now()

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        now = _now()
        self.evaluation_s += now - self._paused
        # The step that follows isn't charged with the evaluation, but is with the loading before it.
        self._since += now - self._paused

    def leave_out(self, seconds: float) -> None:
        """Don't charge the present step with seconds that something else (saving a state) took."""
        self._since += seconds

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps_s": self.steps_s,
            "evaluation_s": self.evaluation_s,
            "samples": self.samples,
            "tokens": [(int(tokens), size) for tokens, size in self._tokens],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps_s, self.evaluation_s = state_dict["steps_s"], state_dict["evaluation_s"]
        self.samples, self._tokens = state_dict["samples"], state_dict["tokens"]

    def figures(self) -> dict[str, float | None]:
        """Seconds of training and rates, by their names in a record's `efficiency`; rates are None for a run of no more
        steps than the warm-up."""
        seconds = sum(self.steps_s[WARM_UP:])
        real = sum(int(number) for number, _ in self._tokens[WARM_UP:])
        padded = sum(size for _, size in self._tokens[WARM_UP:])
        return {
            "train_time_s": sum(self.steps_s) if self.steps_s else None,
            "train_samples_per_s": sum(self.samples[WARM_UP:]) / seconds if seconds else None,
            "train_tokens_per_s": real / seconds if seconds else None,
            "padded_fraction": 1 - real / padded if padded else None,
            "evaluation_during_training_s": self.evaluation_s if self.steps_s else None,
        }


def _now() -> float:
    """Seconds of the performance counter, once the GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
