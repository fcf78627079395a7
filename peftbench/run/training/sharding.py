"""Weights shared out over the ranks (torch's FSDP2): each keeps its part of every weight, of its gradient and of the
optimiser's state, and a layer is whole only while it is computed.

What looks at weights besides training (validation, saving, what comes after training) is given them whole.
"""

import copy
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from peftbench.models import layers
from peftbench.system import ranks


def mesh() -> DeviceMesh:
    """All ranks' devices in a row."""
    return init_device_mesh("cuda" if ranks.on_gpus() else "cpu", (ranks.world(),))


class Shards:
    """A model whose weights are shared out, in place.

    Attributes:
        model: it; `mesh`: over which devices.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        # Its like without weights: taken before, since sharding changes classes and hooks.
        empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
        self._empty = copy.deepcopy(model, empty)  # type: ignore[arg-type]
        self.mesh = mesh()
        for part in [*_layers(model), model]:
            fully_shard(part, mesh=self.mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Every rank's gradient is of its share of one loss: a sum, not a mean.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def whole(self) -> nn.Module:
        """A plain model with today's weights, on every rank. All ranks must ask."""
        model = copy.deepcopy(self._empty)
        made: dict[int, nn.Parameter] = {}
        sources = dict(self.model.named_parameters(remove_duplicate=False))
        for name, p in list(model.named_parameters(remove_duplicate=False)):
            if id(p) not in made:
                source = sources[name]
                made[id(p)] = nn.Parameter(whole(source.data), source.requires_grad)
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner)._parameters[leaf] = made[id(p)]
        buffers = dict(self.model.named_buffers(remove_duplicate=False))
        for name, buffer in model.named_buffers(remove_duplicate=False):
            buffer.data = buffers[name].data.clone()
        return model


def _layers(model: nn.Module) -> list[nn.Module]:
    """The blocks that are sharded one by one. Empty if blocks share parameters: FSDP allows each one owner."""
    found = [layer for stack in layers.stacks(model).values() for layer in stack if list(layer.parameters())]
    uses = Counter(id(p) for layer in found for p in set(layer.parameters()))
    inside = {id(p) for layer in found for p in layer.parameters()}
    names = {id(m) for layer in found for m in layer.modules()}
    outside = {id(p) for m in model.modules() if id(m) not in names for p in m.parameters(recurse=False)}
    return [] if max(uses.values(), default=1) > 1 or inside & outside else found


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor of all ranks' parts, on every rank. All ranks must ask."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def saved(value: Any) -> Any:
    """`whole` for a file: tensor by tensor, into the first rank's main memory alone. All ranks must ask."""
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if ranks.is_first() else full.new_empty(0)
    if isinstance(value, dict):
        return {name: saved(part) for name, part in value.items()}
    return [saved(part) for part in value] if isinstance(value, list) else value


def put(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy a whole tensor, the same on all ranks, into one that may be shared out."""
    target.copy_(_like(target, source) if isinstance(target, DTensor) else source)


def shared_state(optimizer: torch.optim.Optimizer, kept: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that was saved whole, shared out as its weights are: tensor by tensor, and before the
    optimiser loads it, which moves every tensor that it's given to the weight's device."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in kept["param_groups"] for number in group["params"]]
    of = dict(zip(numbers, parameters, strict=True))
    # LoRA-FA's optimiser keeps some by the names of its matrices.
    state = {
        key: {k: _part(of.get(key), value) for k, value in values.items()} for key, values in kept["state"].items()
    }
    return {**kept, "state": state}


def _part(p: torch.Tensor | None, value: Any) -> Any:
    same = isinstance(p, DTensor) and isinstance(value, torch.Tensor) and value.shape == p.shape
    return _like(p, value) if same else value  # type: ignore[arg-type]


def _like(target: DTensor, source: torch.Tensor) -> DTensor:
    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
