"""Sharding by torch's FSDP2: each rank keeps its shard of every weight, of its gradient and of the optimiser's state,
and a layer is whole only while it is computed.

Validation, saving, and everything after training get plain models and whole tensors.
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
    """A mesh of one dimension: the device of each rank."""
    return init_device_mesh("cuda" if ranks.on_gpus() else "cpu", (ranks.world(),))


class Shards:
    """A model whose weights are sharded, in place.

    Attributes:
        model: the sharded model.
        mesh: the devices that it is sharded over.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        # A copy without weights, made first: sharding changes classes and hooks.
        empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in model.parameters()}
        self._empty = copy.deepcopy(model, empty)
        self.mesh = mesh()
        for part in [*_layers(model), model]:
            fully_shard(part, mesh=self.mesh)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # FSDP takes the mean of all ranks' gradients, but each is of its share of one loss: add them up. With
                # a factor FSDP would reduce by NCCL's PREMUL_SUM, which gloo doesn't have.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def whole(self) -> nn.Module:
        """A plain model with the present weights, on every rank. All ranks must call it."""
        model = copy.deepcopy(self._empty)
        #: By the id of an empty parameter, its whole one: tied weights stay tied.
        filled: dict[int, nn.Parameter] = {}
        sources = dict(self.model.named_parameters(remove_duplicate=False))
        for name, p in list(model.named_parameters(remove_duplicate=False)):
            if id(p) not in filled:
                source = sources[name]
                filled[id(p)] = nn.Parameter(whole(source.data), source.requires_grad)
            owner, _, leaf = name.rpartition(".")
            model.get_submodule(owner).register_parameter(leaf, filled[id(p)])
        buffers = dict(self.model.named_buffers(remove_duplicate=False))
        for name, buffer in model.named_buffers(remove_duplicate=False):
            buffer.data = buffers[name].data.clone()
        return model


def _layers(model: nn.Module) -> list[nn.Module]:
    """The blocks that are sharded one by one. Empty if blocks share parameters: FSDP allows each one owner."""
    blocks = [layer for stack in layers.stacks(model).values() for layer in stack if list(layer.parameters())]
    uses = Counter(id(p) for block in blocks for p in set(block.parameters()))
    inner_modules = {id(m) for block in blocks for m in block.modules()}
    outside = {id(p) for m in model.modules() if id(m) not in inner_modules for p in m.parameters(recurse=False)}
    return [] if max(uses.values(), default=1) > 1 or uses.keys() & outside else blocks


def whole(value: torch.Tensor) -> torch.Tensor:
    """The whole tensor of all ranks' shards, on every rank; a plain tensor as it is. All ranks must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def saved(value: Any) -> Any:
    """`whole` of every tensor in nested dicts and lists, for a file: one after the other, into the first rank's main
    memory alone; other ranks get empty tensors. All ranks must call it."""
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full.cpu() if ranks.is_first() else full.new_empty(0)
    if isinstance(value, dict):
        return {name: saved(part) for name, part in value.items()}
    return [saved(part) for part in value] if isinstance(value, list) else value


def put(target: torch.Tensor, source: torch.Tensor) -> None:
    """Copy a whole tensor, the same on all ranks, into one that may be sharded."""
    target.copy_(_like(target, source) if isinstance(target, DTensor) else source)


def shared_state(optimizer: torch.optim.Optimizer, saved_state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that was saved whole, sharded as its weights are. Tensor by tensor, and before the optimiser
    loads it: `load_state_dict` would move all of the whole tensors to the weights' device at once."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in saved_state["param_groups"] for number in group["params"]]
    by_number = dict(zip(numbers, parameters, strict=True))
    # LoRA-FA's optimiser has entries by the names of its matrices as well.
    state = {
        key: {name: _shard(by_number.get(key), value) for name, value in entry.items()}
        for key, entry in saved_state["state"].items()
    }
    return {**saved_state, "state": state}


def _shard(p: torch.Tensor | None, value: Any) -> Any:
    """An entry of an optimiser's state, sharded as its weight if it is as large."""
    same = isinstance(p, DTensor) and isinstance(value, torch.Tensor) and value.shape == p.shape
    return _like(p, value) if same else value  # type: ignore[arg-type]


def _like(target: DTensor, source: torch.Tensor) -> DTensor:
    """A tensor, the same on all ranks, sharded as another; without a broadcast (`src_data_rank=None`)."""
    return distribute_tensor(source.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
