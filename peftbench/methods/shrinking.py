"""Progressive shrinking: a model loses layers one by one while it is fine-tuned.

Source: Cai et al., arXiv 1908.09791, section 3.3, "elastic depth" (the last layers go first, step by step), there to
train one network that holds many, here to end at one. Which layers BERT can do without: Sajjad et al., arXiv
2004.03844.
"""

from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.config.rules import between, one_of
from peftbench.config.types import MethodConfig
from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.full import Full
from peftbench.models import layers, one_position, parameters
from peftbench.models.parameters import MakeOptimizer


class Shrinking(Full):
    """`args`: `keep`, the share of each stack's layers that is left; `start` and `end`, the shares of the run at which
    the first and the last one go, the others at even distances; `drop`: the layers at the top, or every so many.

    The layers are removed, not skipped: what is scored, timed and saved at the end is the smaller model.
    """

    arguments: ClassVar = {
        "keep": between(0, 1, above=True),
        "start": between(0, 0.95),
        "end": between(0, 0.95),
        "drop": one_of("top", "alternate"),
    }

    _model: nn.Module
    _optimizer: torch.optim.Optimizer
    #: (step before which it goes, stack, indices then left of those that are there), in order.
    _plan: list[tuple[int, str, list[int]]]

    def __init__(self, config: MethodConfig) -> None:
        """Raises ConfigError for arguments outside their range, or an end before the start."""
        super().__init__(config)
        if config.args["end"] < config.args["start"]:
            raise ConfigError("method.args.end: allowed is nothing below method.args.start")

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Raises NotApplicable if the model can't do without the layers that are to go."""
        self._model, self._plan = super().apply(model, context), []
        sizes = {name: len(stack) for name, stack in layers.stacks(model).items()}
        layers.keep(layers.empty(model), {name: self._left(size) for name, size in sizes.items()})
        for name, size in sizes.items():
            self._plan += self._removals(name, size, context.total_steps)
        self._plan.sort(key=lambda removal: removal[0])
        while self._plan and self._plan[0][0] <= 0:  # What no step sees isn't trained.
            self._remove()
        return self._model

    def _left(self, size: int) -> list[int]:
        """The layers of a stack that stay, by their first places."""
        count = layers.share(size, self.config.args["keep"])
        return list(range(count)) if self.config.args["drop"] == "top" else layers.spread(size, count)

    def _removals(self, name: str, size: int, total: int) -> list[tuple[int, str, list[int]]]:
        args, left = self.config.args, self._left(size)
        # From the top down: the places of those that are still to go don't shift.
        going = sorted(set(range(size)) - set(left), reverse=True)
        last, span = max(1, len(going) - 1), args["end"] - args["start"]
        return [
            (int(total * (args["start"] + span * i / last)), name, [j for j in range(size - i) if j != index])
            for i, index in enumerate(going)
        ]

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        self._optimizer = default(parameters.groups(model))
        return self._optimizer

    def callbacks(self) -> list[Callback]:
        return [_Shrink(self)]

    def may_select(self, step: int) -> bool:
        return not self._plan

    def at_the_end(self, model: nn.Module) -> nn.Module:
        for _, name, left in self._plan:
            layers.keep(model, {name: left})
        return model

    def shrink(self, step: int) -> None:
        """Remove what has to go before step `step` (from 0), from the model and from the optimiser."""
        while self._plan and self._plan[0][0] <= step:
            self._remove()
        self._forget_removed()

    def state_dict(self) -> dict[str, Any]:
        return {"to_go": len(self._plan)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        while len(self._plan) > state["to_go"]:
            self._remove()
        self._forget_removed()

    def _remove(self) -> None:
        _, name, left = self._plan.pop(0)
        narrowed = one_position.installed(self._model)
        layers.keep(self._model, {name: left})
        if narrowed:  # Another layer is the last one now.
            one_position.install(self._model)

    def _forget_removed(self) -> None:
        living = {id(p) for p in self._model.parameters()}
        for group in self._optimizer.param_groups:
            for p in [p for p in group["params"] if id(p) not in living]:
                self._optimizer.state.pop(p, None)
            group["params"] = [p for p in group["params"] if id(p) in living]


class _Shrink(Callback):
    def __init__(self, method: Shrinking) -> None:
        self._method = method

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._method.shrink(trainer.global_step)
