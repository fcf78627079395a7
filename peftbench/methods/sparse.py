"""A sparse change of the weights: chosen entries of weights and biases are trained, saved with their places.

The end of every method that selects entries (FISH Mask, SAM, diff pruning): theta = theta_0 + m * v, m a fixed 0/1 mask
that is kept as the list of its ones. Bytes: 8 an entry (a 32-bit value and a 32-bit place).
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from peftbench.methods.tuners.adapter import AdapterParameters, register
from peftbench.methods.tuners.peft_compat import BufferDict
from peftbench.methods.tuners.shift import Shift, ShiftedLinear, ShiftTuner


@dataclass
class SparseConfig(PeftConfig):
    """`counts`: how many entries are trained, by module name; these modules are the targets. `modules_to_save`: trained
    whole, i.e. the task head. Raises ValueError for counts below 1."""

    counts: dict[str, int] = field(default_factory=dict)
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "SPARSE"
        if not all(type(count) is int and count > 0 for count in self.counts.values()):
            raise ValueError("counts must be integers above 0")
        self.target_modules = list(self.counts)


class SparseLinear(ShiftedLinear):
    """dW, db = v at the places m, 0 elsewhere. Places count through W, row by row, and then b.

    `sparse_values`: v, (k,), zero at the start; `sparse_indices`: m, (k,) int32, 0, 1, ... until `choose` is called.
    """

    adapter_layer_names = ("sparse_values",)
    other_param_names = ("sparse_indices",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.sparse_values = AdapterParameters()
        self.sparse_indices = BufferDict({}, persistent=True)
        self.count: dict[str, int] = {}

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds `count[adapter_name]` values and places."""
        device, count = self.weight.device, self.count[adapter_name]
        self.sparse_values[adapter_name] = nn.Parameter(torch.zeros(count, device=device))
        self.sparse_indices[adapter_name] = torch.arange(count, dtype=torch.int32, device=device)

    def choose(self, adapter_name: str, places: torch.Tensor) -> None:
        """Sets m; places: (k,), all different."""
        self.sparse_indices[adapter_name].copy_(places)

    def shift(self, adapter_name: str) -> Shift:
        base, values = self.base_layer, self.sparse_values[adapter_name]
        size = base.weight.numel()
        flat = values.new_zeros(size + (0 if base.bias is None else base.bias.numel()))
        flat = flat.index_add(0, self.sparse_indices[adapter_name], values)
        return flat[:size].view_as(base.weight), None if base.bias is None else flat[size:]


class SparseTuner(ShiftTuner):
    """Wraps the modules that `counts` names."""

    method = "sparse"
    prefix = "sparse_"
    tuner_layer_cls = SparseLinear

    def _create_and_replace(self, peft_config: Any, adapter_name: str, target: Any, *args: Any, **kwargs: Any) -> None:
        layer = target if isinstance(target, SparseLinear) else SparseLinear(target)
        layer.count[adapter_name] = peft_config.counts[kwargs["current_key"]]
        super()._create_and_replace(peft_config, adapter_name, layer, *args, **kwargs)


register("SPARSE", config_class=SparseConfig, tuner_class=SparseTuner, prefix="sparse_")
