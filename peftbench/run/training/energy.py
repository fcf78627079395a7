"""Joules of training, where the machine can tell: its processors by RAPL (powercap), NVIDIA GPUs by NVML."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch import Callback

_POWERCAP = Path("/sys/class/powercap")
#: Seconds between readings: a processor's counter begins anew after some minutes at full power.
_EVERY_S = 10.0


class EnergyCounters:
    """The machine's energy counters as one that doesn't begin anew.

    Whole processors and GPUs: what else runs there is counted too.
    """

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        self._last: dict[Path, int] = {}
        self._ranges: dict[Path, int] = {}
        #: Of each processor, not of its cores or memory, which are parts of it (`intel-rapl:0:1`).
        for zone in sorted(powercap.glob("*-rapl:*")) if powercap.is_dir() else []:
            counter = zone / "energy_uj"
            if zone.name.count(":") == 1 and (now := _number(counter)) is not None:
                self._last[counter], self._ranges[counter] = now, _number(zone / "max_energy_range_uj") or 0
        self._gpus = _gpus()
        self._gpus_at_start = self._of_gpus()
        self._microjoules = 0

    def read(self) -> float | None:
        """Joules since construction; None where nothing counts them, or a counter can't be read any more."""
        for counter, before in self._last.items():
            now = _number(counter)
            if now is None:
                return None
            self._microjoules += now - before if now >= before else now - before + self._ranges[counter]
            self._last[counter] = now
        if not self._last and not self._gpus:
            return None
        return self._microjoules / 1e6 + (self._of_gpus() - self._gpus_at_start) / 1e3

    def _of_gpus(self) -> int:
        """Millijoules of all GPUs since their drivers were loaded."""
        if not self._gpus:
            return 0
        import pynvml

        return sum(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) for gpu in self._gpus)


def _number(file: Path) -> int | None:
    """A counter's value; None where there is none, or only root may read it."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _gpus() -> list[Any]:
    """NVML's handles of the GPUs that this process computes on and that count energy; empty without nvidia-ml-py."""
    if not torch.cuda.is_available():
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        identities = [torch.cuda.get_device_properties(i).uuid for i in range(torch.cuda.device_count())]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}") for identity in identities]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # No such package, no driver, a GPU too old: each says it in its own way.
        return []
    return handles


class Energy(Callback):
    """Joules from the first step to the last, evaluation left out."""

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        self._powercap = powercap
        self._counters: EnergyCounters | None = None
        self._joules: float | None = None
        self._paused: float | None = None
        self._left_out, self._looked = 0.0, 0.0

    def joules(self) -> float | None:
        """The energy that training took, in joules; None where the machine can't tell."""
        return self._joules

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._counters, self._looked = EnergyCounters(self._powercap), time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if time.monotonic() - self._looked > _EVERY_S and self._counters is not None:
            self._counters.read()
            self._looked = time.monotonic()

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._paused = self._counters.read() if self._counters is not None else None

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        now = self._counters.read() if self._counters is not None else None
        if now is not None and self._paused is not None:
            self._left_out += now - self._paused

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        now = self._counters.read() if self._counters is not None else None
        self._joules = None if now is None else now - self._left_out
