"""The recipe's optimiser and learning rate schedule."""

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
from peftbench.errors import ConfigError
from peftbench.models.parameters import MakeOptimizer


def factory(recipe: RecipeConfig, lr: float, mesh: DeviceMesh | None = None) -> MakeOptimizer:
    """Parameter groups -> the recipe's optimiser: one pass over all weights (`fused`) where it has that and neither it
    nor another way is asked for.

    Args:
        mesh: of the devices that weights are shared out over, on which all of them try the optimiser; None: they
            aren't.

    Raises:
        ConfigError: no optimiser class, arguments it doesn't take, or it can't step on weights that are shared out.
    """
    arguments = dict(recipe.optimizer)
    found = targets.subclass("recipe.optimizer._target_", arguments.pop("_target_", None), torch.optim.Optimizer)
    for name, key in {"lr": "method.lr", "weight_decay": "recipe.weight_decay"}.items():
        if name in arguments:
            raise ConfigError(f"recipe.optimizer.{name}: is given by {key}")
    make = functools.partial(found, lr=lr, weight_decay=recipe.weight_decay, **arguments)
    fused = functools.partial(make, fused=True)
    asked = arguments.keys() & {"fused", "foreach", "differentiable"}
    if "fused" in inspect.signature(found).parameters and not asked and _refusal(fused, mesh) is None:
        return fused
    refusal = _refusal(make, mesh)
    if refusal is not None:
        raise ConfigError(f"recipe.optimizer: {found.__name__} {refusal}")
    return make


def _refusal(make: MakeOptimizer, mesh: DeviceMesh | None) -> str | None:
    """Why an optimiser can't be used, or None if it can. What torch's tensors of several devices can do (fused AdamW,
    but not fused SGD) shows in a step alone."""
    try:
        make([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        return f"refuses its arguments ({error})"
    if mesh is None:
        return None
    whole = torch.zeros(mesh.size(), 2), torch.zeros(mesh.size())
    shared = [distribute_tensor(p, mesh, [Shard(0)], src_data_rank=None) for p in whole]
    for p in shared:
        p.grad = torch.zeros_like(p)
    try:
        make([{"params": shared}]).step()
    except RuntimeError as error:
        return f"can't step on weights that hardware.strategy=fsdp shares out ({str(error).splitlines()[0]})"
    return None


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
