"""The recipe's optimiser and learning rate schedule."""

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from peftbench import imports
from peftbench.errors import ConfigError
from peftbench.schema import RecipeConfig


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Trained parameters in two groups: matrices, which the recipe's weight decay shrinks, and vectors (biases,
    norms, scales), which it leaves alone (`"weight_decay": 0`)."""
    return split([p for p in model.parameters() if p.requires_grad])


def split(trained: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """The two groups of `groups`, of some parameters; empty ones are left out."""
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    return [g for g in ({"params": matrices}, {"params": vectors, "weight_decay": 0.0}) if g["params"]]


def at_rate(groups: Iterable[dict[str, Any]], chosen: set[int], lr: float | None) -> list[dict[str, Any]]:
    """Parameter groups in which the parameters with these ids learn at a rate of their own; None: as they are."""
    if lr is None:
        return list(groups)
    found = []
    for group in groups:
        apart = [p for p in group["params"] if id(p) in chosen]
        rest = [p for p in group["params"] if id(p) not in chosen]
        found += [{**group, "params": rest}] if rest else []
        found += [{**group, "params": apart, "lr": lr}] if apart else []
    return found


def factory(recipe: RecipeConfig, lr: float) -> Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]:
    """Parameter groups -> the recipe's optimiser: one pass over all weights (`fused`) where it has that and neither it
    nor another way is asked for.

    Raises:
        ConfigError: no optimiser class, or arguments it doesn't take.
    """
    arguments = dict(recipe.optimizer)
    found = imports.subclass("recipe.optimizer._target_", arguments.pop("_target_", None), torch.optim.Optimizer)
    if "fused" in inspect.signature(found).parameters and not arguments.keys() & {"fused", "foreach", "differentiable"}:
        arguments["fused"] = True
    try:
        make = functools.partial(found, lr=lr, weight_decay=recipe.weight_decay, **arguments)
        make([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipe.optimizer: {found.__name__} refuses its arguments ({error})") from None
    return make


def schedule(optimizer: torch.optim.Optimizer, recipe: RecipeConfig, total_steps: int) -> LambdaLR:
    """The learning rate as a share of `method.lr`: a linear rise over the warm-up, then `recipe.schedule`.

    Warm-up lasts ceil(total * ratio) steps. Step s (from 0) of w warm-up and t total steps: s/w while warming up;
    then linear (t-s)/(t-w), cosine (1+cos(pi (s-w)/(t-w)))/2, or constant 1.
    """
    warmup = math.ceil(total_steps * recipe.warmup_ratio)

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        done = (step - warmup) / max(1, total_steps - warmup)
        return {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[recipe.schedule]

    return LambdaLR(optimizer, share)
