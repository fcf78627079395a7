"""The dense phase of diff pruning: a difference to the pretrained weights behind gates that learn to close.

Source: Guo, Rush and Kim, "Parameter-Efficient Transfer Learning with Diff Pruning", arXiv 2012.07463, section 3:
theta = theta_0 + z * w (* z_g, the gate of its weight or bias: the structured form), z a hard-concrete gate:
s = sigmoid(log u - log(1 - u) + alpha), u uniform; z = min(1, max(0, s (r - l) + l)), l = -1.5, r = 1.5. Minimised is
task loss + lambda * sum P(z > 0) P(z_g > 0), P(z > 0) = sigmoid(alpha - log(-l / r)).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from peftbench.methods.tuners.adapter import AdapterParameters, register
from peftbench.methods.tuners.shift import Shift, ShiftedLinear, ShiftTuner

LOW, HIGH = -1.5, 1.5


@dataclass
class DiffConfig(PeftConfig):
    """`structured`: a second gate for each weight and each bias; `gate_start`: alpha at the start. `modules_to_save`:
    trained whole, i.e. the task head."""

    structured: bool = True
    gate_start: float = 5.0
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "DIFF"


def hard_concrete(alpha: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
    """z in [0, 1], in alpha's shape; noise: u in (0, 1), or None for its most likely course, u = 1/2."""
    logits = alpha if noise is None else alpha + noise.logit()
    return (torch.sigmoid(logits) * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(alpha: torch.Tensor) -> torch.Tensor:
    """P(z > 0)."""
    return torch.sigmoid(alpha - math.log(-LOW / HIGH))


class DiffLinear(ShiftedLinear):
    """`diff_weight`: w, `diff_gate`: alpha, both (out * in + out,), the weight's and then the bias's; `diff_group`: the
    alphas of weight and bias, (2,)."""

    adapter_layer_names = ("diff_weight", "diff_gate", "diff_group")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.diff_weight, self.diff_gate, self.diff_group = (AdapterParameters() for _ in range(3))

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds two values an entry and, where structured, one for the weight and one for the bias."""
        device, size = self.weight.device, sum(self.sizes())
        self.diff_weight[adapter_name] = nn.Parameter(torch.zeros(size, device=device))
        self.diff_gate[adapter_name] = nn.Parameter(torch.full((size,), config.gate_start, device=device))
        if config.structured:
            groups = torch.full((len(self.sizes()),), config.gate_start, device=device)
            self.diff_group[adapter_name] = nn.Parameter(groups)

    def sizes(self) -> list[int]:
        """Entries of the weight and, where there is one, of the bias."""
        return [t.numel() for t in (self.base_layer.weight, self.base_layer.bias) if t is not None]

    def _spread(self, groups: torch.Tensor) -> torch.Tensor:
        return torch.cat([g.expand(size) for g, size in zip(groups, self.sizes(), strict=True)])

    def difference(self, adapter_name: str, *, noisy: bool) -> torch.Tensor:
        """z * w (* z_g), (out * in + out,)."""
        alpha = self.diff_gate[adapter_name]
        gated = hard_concrete(alpha, _noise(alpha) if noisy else None) * self.diff_weight[adapter_name]
        if adapter_name not in self.diff_group:
            return gated
        group = self.diff_group[adapter_name]
        return gated * self._spread(hard_concrete(group, _noise(group) if noisy else None))

    def open_gates(self, adapter_name: str) -> torch.Tensor:
        """The expected L0 norm of the difference."""
        opened = open_probability(self.diff_gate[adapter_name])
        if adapter_name in self.diff_group:
            opened = opened * self._spread(open_probability(self.diff_group[adapter_name]))
        return opened.sum()

    def shift(self, adapter_name: str) -> Shift:
        flat, base = self.difference(adapter_name, noisy=self.training), self.base_layer
        size = base.weight.numel()
        return flat[:size].view_as(base.weight), None if base.bias is None else flat[size:]


def _noise(alpha: torch.Tensor) -> torch.Tensor:
    return torch.rand_like(alpha).clamp(1e-6, 1 - 1e-6)


class DiffTuner(ShiftTuner):
    """A tuner whose layers may be replaced by sparse ones once the mask is fixed (`diff_pruning.narrow`)."""

    method = "diff_pruning"
    prefix = "diff_"
    tuner_layer_cls = ShiftedLinear

    def wrap(self, name: str, module: nn.Module, config: Any) -> DiffLinear:
        return DiffLinear(module)


register("DIFF", config_class=DiffConfig, tuner_class=DiffTuner, prefix="diff_")
