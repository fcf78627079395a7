"""The recipe's optimiser and its learning rate schedule."""

import functools
import inspect
import math

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.optim.lr_scheduler import LambdaLR

from peftbench.config import targets
from peftbench.config.types import RecipeConfig
from peftbench.errors import ConfigError, first_line
from peftbench.models.parameters import MakeOptimizer


def factory(recipe: RecipeConfig, lr: float, mesh: DeviceMesh | None = None) -> MakeOptimizer:
    """A function from parameter groups to the recipe's optimiser. Its fused kernel (one pass over all weights) is used
    where the class has one and the recipe names no implementation.

    Args:
        mesh: the devices that weights are sharded over, each of which tries the optimiser; None: no sharding.

    Raises:
        ConfigError: no optimiser class, arguments that the class doesn't take, or it can't step on sharded weights.
    """
    arguments = dict(recipe.optimizer)
    kind = targets.subclass("recipe.optimizer._target_", arguments.pop("_target_", None), torch.optim.Optimizer)
    for name, key in {"lr": "method.lr", "weight_decay": "recipe.weight_decay"}.items():
        if name in arguments:
            raise ConfigError(f"recipe.optimizer.{name}: is given by {key}")
    make = functools.partial(kind, lr=lr, weight_decay=recipe.weight_decay, **arguments)
    fused = functools.partial(make, fused=True)
    implementation_named = arguments.keys() & {"fused", "foreach", "differentiable"}
    if "fused" in inspect.signature(kind).parameters and not implementation_named and _refusal(fused, mesh) is None:
        return fused
    refusal = _refusal(make, mesh)
    if refusal is not None:
        raise ConfigError(f"recipe.optimizer: {kind.__name__} {refusal}")
    return make


def _refusal(make: MakeOptimizer, mesh: DeviceMesh | None) -> str | None:
    """The reason why an optimiser can't be used, or None if it can. It is tried by a step: nothing else tells which
    optimisers torch's DTensor supports (fused AdamW, but not fused SGD)."""
    try:
        make([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        return f"refuses its arguments ({error})"
    if mesh is None:
        return None
    whole = torch.zeros(mesh.size(), 2), torch.zeros(mesh.size())
    sharded = [distribute_tensor(p, mesh, [Shard(0)], src_data_rank=None) for p in whole]
    for p in sharded:
        p.grad = torch.zeros_like(p)
    try:
        make([{"params": sharded}]).step()
    except RuntimeError as error:
        return f"can't step on weights that hardware.strategy=fsdp shares out ({first_line(error)})"
    return None


def schedule(optimizer: torch.optim.Optimizer, recipe: RecipeConfig, total_steps: int) -> LambdaLR:
    """The learning rate as a factor of `method.lr`: a linear rise over the warm-up, then `recipe.schedule`.

    The warm-up lasts ceil(total * ratio) steps. Step s (from 0) of w warm-up and t total steps: s/w while warming up;
    then linear (t-s)/(t-w), cosine (1+cos(pi (s-w)/(t-w)))/2, or constant 1.
    """
    warmup = math.ceil(total_steps * recipe.warmup_ratio)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        done = (step - warmup) / max(1, total_steps - warmup)
        return {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2, "constant": 1.0}[recipe.schedule]

    return LambdaLR(optimizer, factor)
