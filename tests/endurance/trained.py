"""LoRA that can be killed in the middle of a step."""

from typing import Any

import victim
from lightning.pytorch import Callback

from peftbench.methods.hub import Hub

victim.prepare_child()


class Stepping(Hub):
    """As LoRA is, with a place between the gradients and the optimiser's step."""

    def callbacks(self) -> list[Callback]:
        return [_InStep()]


class _InStep(Callback):
    def on_before_optimizer_step(self, trainer: Any, *_: Any) -> None:
        victim.note("steps", str(trainer.global_step))
        victim.meet("step")
