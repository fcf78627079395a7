"""LISA: a few layers drawn at random are trained at a time, the embeddings and what stands above the layers always.

Source: Pan et al., arXiv 2403.17919, algorithm 1: for every period of K steps freeze all layers but gamma of them,
drawn uniformly, and run AdamW. The optimiser's state is kept for what is awake alone, as the memory that is saved is
the point; a layer that is drawn again starts with an empty one.
"""

import random
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch import Callback
from torch import nn

from peftbench.config.rules import whole
from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.full import Full
from peftbench.models import layers
from peftbench.models import parameters as of_model
from peftbench.models.parameters import MakeOptimizer


class Lisa(Full):
    """`args`: `layers` (gamma), awake at a time; `interval` (K), steps between draws.

    Layers sleep only while a step is taken: before and after, all that the run trains says so by `requires_grad`.
    """

    arguments: ClassVar = {"layers": whole(1), "interval": whole(1)}

    _layers: list[list[nn.Parameter]]
    #: The layers that are awake, a period after the other.
    _draws: list[list[int]]
    _optimizer: torch.optim.Optimizer

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Raises ConfigError if more layers are to be awake than there are."""
        model, args = super().apply(model, context), self.config.args
        self._layers = layers.parts(model).layers
        count = len(self._layers)
        if args["layers"] > count:
            raise ConfigError(f"method.args.layers={args['layers']}: allowed is 1 to {count}, the model's layers")
        rng = random.Random(context.seed)
        periods = -(-max(1, context.total_steps) // args["interval"])
        self._draws = [rng.sample(range(count), args["layers"]) for _ in range(periods)]
        return model

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        self._optimizer = default(of_model.groups(model))
        return self._optimizer

    def callbacks(self) -> list[Callback]:
        return [_Sleep(self)]

    def cycle(self) -> int:
        """Steps until every layer has been drawn, or all steps."""
        seen: set[int] = set()
        periods = 0
        while len(seen) < len(self._layers) and periods < len(self._draws):
            seen.update(self._draws[periods])
            periods += 1
        return periods * int(self.config.args["interval"])

    def begin(self, step: int) -> None:
        """Put all layers but the drawn ones to sleep, before step `step` (from 0)."""
        awake = self._draws[min(step // self.config.args["interval"], len(self._draws) - 1)]
        for index, parameters in enumerate(self._layers):
            for p in parameters if index not in awake else []:
                p.requires_grad_(False)
                self._optimizer.state.pop(p, None)

    def end(self) -> None:
        """Wake all layers."""
        for parameters in self._layers:
            for p in parameters:
                p.requires_grad_(True)


class _Sleep(Callback):
    def __init__(self, method: Lisa) -> None:
        self._method = method

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._method.begin(trainer.global_step)

    def on_train_batch_end(self, *_: Any) -> None:
        self._method.end()
