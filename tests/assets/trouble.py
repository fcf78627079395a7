"""Methods that meet trouble a run has to survive; LoRA otherwise. `TROUBLE` names a file that tells them of it."""

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from peftbench.methods.hub import Hub


class _At(Callback):
    """Acts when a step begins."""

    def __init__(self, step: int, act: Callable[[Any], None]) -> None:
        self.step, self.act = step, act

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if self.step in (trainer.global_step, -1):
            self.act(trainer)


def _mark() -> Path:
    return Path(os.environ["TROUBLE"])


class Hangs(Hub):
    def callbacks(self) -> list[Callback]:
        return [_At(5, lambda trainer: time.sleep(1000))]


class Flaky(Hub):
    """Fails the first time."""

    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            if not _mark().exists():
                _mark().touch()
                raise ConnectionError("only once")

        return [_At(5, act)]


class Hungry(Hub):
    """Has memory for two examples at once."""

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if torch.is_grad_enabled() and len(batch["input_ids"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return batch


class HungryThere(Hub):
    """Has memory for two examples at once on the second device."""

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if torch.is_grad_enabled() and len(batch["input_ids"]) > 2 and os.environ["RANK"] == "1":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return batch


class Gluttonous(Hub):
    """Takes memory until the kernel says no, for more than two examples at once."""

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if torch.is_grad_enabled() and len(batch["input_ids"]) > 2:
            taken = [torch.ones(1 << 25) for _ in range(64)]  # 8 GB at most, where nobody says it.
            raise AssertionError(f"nobody said no to {len(taken)} times 128 MB")
        return batch


class Insatiable(Hub):
    """Has memory for nothing."""

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if torch.is_grad_enabled():
            raise MemoryError
        return batch


class Orphaned(Hub):
    """Loses its data worker."""

    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            loader = trainer.fit_loop._combined_loader.flattened[0]
            os.kill(loader._iterator._workers[0].pid, 9)

        return [_At(5, act)]


class Slow(Hub):
    """Takes a tenth of a second a step."""

    def callbacks(self) -> list[Callback]:
        return [_At(-1, lambda trainer: time.sleep(0.1))]


class FillsDisk(Hub):
    """Leaves nothing of the disk that `TROUBLE` lies on."""

    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            with _mark().open("wb", buffering=0) as stream:
                for size in (1 << 16, 1 << 10, 1):
                    try:
                        while True:
                            stream.write(bytes(size))
                    except OSError:
                        continue

        return [_At(5, act)]


class Measured(Hub):
    """Meets what `TROUBLE_HOW` says as soon as its speed is measured."""

    measuring = False

    def merge(self, model: torch.nn.Module) -> torch.nn.Module | None:
        _mark().touch()
        how = os.environ.get("TROUBLE_HOW")
        if how == "waits":
            time.sleep(1000)
        elif how == "dies":
            os.kill(os.getpid(), 9)
        elif how == "crashes":
            ctypes.string_at(0)
        elif how == "exits":
            os._exit(7)
        elif how == "runs out":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.measuring = how == "is slow"
        return super().merge(model)

    def prepare_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self.measuring:
            time.sleep(1000)
        return batch


class Talks(Hub):
    """Says its secrets, in a log and in an error."""

    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            key = os.environ["WANDB_API_KEY"]
            print("the key is", key, flush=True)
            raise ConnectionError(f"GET https://api:{key}@example.org/?token={os.environ['HF_TOKEN']} failed")

        return [_At(5, act)]


class Lame(Hub):
    """Fails on the second rank."""

    def callbacks(self) -> list[Callback]:
        def act(trainer: Any) -> None:
            if trainer.global_rank == 1:
                raise ValueError("only here")

        return [_At(5, act)]
