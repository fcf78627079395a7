"""Methods that go wrong in the fifth step, each in its own way; LoRA's head otherwise."""

import ctypes
import os
import signal
from typing import Any

import torch
from lightning.pytorch import Callback

from peftbench.methods.hub import Hub


class _AtFive(Callback):
    def __init__(self, act: Any) -> None:
        self.act = act

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5 and not os.environ.get("FAULTS_MENDED"):
            self.act(trainer)


class Raises(Hub):
    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            raise ValueError("step five\nis not for me")

        return [_AtFive(act)]


class Killed(Hub):
    def callbacks(self) -> list[Callback]:
        return [_AtFive(lambda trainer: os.kill(os.getpid(), signal.SIGKILL))]


class Crashes(Hub):
    def callbacks(self) -> list[Callback]:
        return [_AtFive(lambda trainer: ctypes.string_at(0))]


class RunsOut(Hub):
    def callbacks(self) -> list[Callback]:
        return [_AtFive(lambda trainer: torch.empty(1 << 60))]


class Diverges(Hub):
    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Any) -> torch.Tensor:
        return task_loss * float("nan")


class Exits(Hub):
    def callbacks(self) -> list[Callback]:
        return [_AtFive(lambda trainer: os._exit(7))]
