"""Time and memory of a run, as docs/measures.md defines them."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

from peftbench.data.batch import Batch, tokens
from peftbench.results import quality
from peftbench.system import load, ranks
from peftbench.system.load import CpuCounters, Load

#: Steps that rates leave out: the first ones fill caches, start workers and compile.
WARM_UP = 3
#: Seconds of a window, at least: the kernel's counters tick in hundredths of a second, here a percent.
_WINDOW_S = 1.0
#: Quiet windows that a rate is the median of, at least.
_FEWEST = 3


class PeakMemory:
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

    It also looks at how much of the processor the steps had. They are cut into windows of a second or more; where
    others took much of the processor in some and not in all, the rates are those of the quiet ones.

    Args:
        look: reads the kernel's counters.
    """

    def __init__(self, look: Callable[[], CpuCounters] = load.counters) -> None:
        self._look = look
        self._training = False
        #: The counters since when the present window's load isn't added up yet; None: while it isn't training.
        self._seen: CpuCounters | None = None
        #: Of the present window the load so far, and its first step (from 0); of those before, by step.
        self._load = Load()
        self._first = WARM_UP
        self._windows: list[tuple[int, int, Load]] = []
        self.steps_s: list[float] = []
        self.evaluation_s = 0.0
        self.samples: list[int] = []
        self._tokens: list[tuple[torch.Tensor | int, int]] = []
        self._since = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._since, self._training = _now(), True
        self._see()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        # CUDA runs behind: wait for it only where the figures are cut.
        first, last = len(self.steps_s) < WARM_UP, trainer.global_step >= pl_module.total_steps
        now = time.perf_counter()
        due = not first and (last or now - self._since + sum(self.steps_s[self._first :]) >= _WINDOW_S)
        now = _now() if first or due else now
        self.steps_s.append(now - self._since)
        self._since = now
        self.samples.append(len(batch["labels"]))
        # Not read here: on CUDA that would wait for the step.
        self._tokens.append(tokens(batch))
        if last:
            self._training = False
        if due:
            self._close()
        elif len(self.steps_s) == WARM_UP:
            self._see()

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.pause()

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.evaluation_s += self.go_on()

    def pause(self) -> None:
        """Stop the clock while something else is done, such as saving a state, until `go_on`."""
        self._paused = _now()
        self._add()
        self._seen = None

    def go_on(self) -> float:
        """Start the clock again; returns the seconds since `pause`. The present step isn't charged with them, but is
        with the loading before."""
        seconds = _now() - self._paused
        self._since += seconds
        self._see()
        return seconds

    def _see(self) -> None:
        """Load counts from now on, once the warm-up is over and until the last step is made."""
        self._seen = self._look() if self._training and len(self.steps_s) >= WARM_UP else None

    def _add(self) -> None:
        """Add up the present window's load to this moment."""
        if self._seen is not None:
            now = self._look()
            self._load, self._seen = self._load + self._seen.until(now), now

    def _close(self) -> None:
        """End the present window with the step that was made last, unless the run ends in too short a one."""
        self._add()
        if not self._training:
            self._seen = None
            if self._load.wall_s < _WINDOW_S / 2:
                return
        self._windows.append((self._first, len(self.steps_s), self._load))
        self._load, self._first = Load(), len(self.steps_s)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps_s": self.steps_s,
            "evaluation_s": self.evaluation_s,
            "samples": self.samples,
            "tokens": [(int(tokens), size) for tokens, size in self._tokens],
            "windows": [(first, end, vars(seen)) for first, end, seen in self._windows],
            "load": vars(self._load),
            "first": self._first,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._windows = [(first, end, Load(**seen)) for first, end, seen in state_dict["windows"]]
        self._load, self._first = Load(**state_dict["load"]), state_dict["first"]
        self.steps_s, self.evaluation_s = state_dict["steps_s"], state_dict["evaluation_s"]
        self.samples, self._tokens = state_dict["samples"], state_dict["tokens"]

    def figures(self) -> dict[str, float | None]:
        """Seconds of training, rates, and how much of the processor it had, by their names in a record's `efficiency`;
        rates are None for a run of no more steps than the warm-up. All ranks must call it."""
        threads = 1 if torch.cuda.is_initialized() else torch.get_num_threads()
        quiet = self._quiet(threads)
        spans = quiet or [(WARM_UP, len(self.steps_s))]
        real = sum(int(number) for number, _ in self._tokens[WARM_UP:])
        padded = sum(size for _, size in self._tokens[WARM_UP:])
        return {
            "train_time_s": sum(self.steps_s) if self.steps_s else None,
            "train_samples_per_s": self._rate(self.samples, spans),
            "train_tokens_per_s": self._rate([number for number, _ in self._tokens], spans),
            "padded_fraction": 1 - real / padded if padded else None,
            "evaluation_during_training_s": self.evaluation_s if self.steps_s else None,
            **quality.figures("train", _of_all_ranks(self._whole()), threads * ranks.world()),
            "train_quiet_windows": len(quiet) if quiet else None,
        }

    def _rate(self, counts: Sequence[int | torch.Tensor], spans: Sequence[tuple[int, int]]) -> float | None:
        """The median over spans of steps of how many a second there were; None where no time went by."""
        rates = [
            sum(map(int, counts[first:end])) / seconds
            for first, end in spans
            if (seconds := sum(self.steps_s[first:end]))
        ]
        return statistics.median(rates) if rates else None

    def _quiet(self, threads: int) -> list[tuple[int, int]]:
        """The windows in which others took little, as spans of steps, where in other windows they took more; empty
        where all are alike or nothing is known, or where so few are quiet that their median is the luck of their
        batches."""
        had = [(first, end, window.cores_fraction(threads)) for first, end, window in self._windows]
        if ranks.world() > 1 or any(fraction is None for *_, fraction in had):
            return []
        spans = [(first, end) for first, end, fraction in had if not quality.is_busy(fraction)]
        return spans if _FEWEST <= len(spans) < len(had) else []

    def _whole(self) -> Load:
        """The load of all windows."""
        return sum((window for *_, window in self._windows), self._load)


def _of_all_ranks(seen: Load) -> Load:
    """A load whose own part is that of all ranks, which share one machine. All ranks must call it."""
    return replace(seen, own_s=sum(ranks.gathered(seen.own_s)))


def _now() -> float:
    """Seconds of the performance counter, once the GPU has done what it was given."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()
