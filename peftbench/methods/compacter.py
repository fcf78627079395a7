"""Compacter: bottleneck adapters whose weights are sums of Kronecker products.

Source: Karimi Mahabadi et al., "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers", arXiv 2106.04647,
sections 3 and 4. A projection's weight is W = sum_i A_i (x) (s_i t_i): A_i: (n, n), the same in all adapters of the
model; s_i: (in / n, k), t_i: (k, out / n), of low rank k. Placed as Houlsby's adapters are.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.activations import ACT2FN

from peftbench.methods.bottleneck import BottleneckConfig, BottleneckTuner, checked_width, output_width
from peftbench.methods.tuners.adapter import AdapterLayer, AdapterParameters, refuse_merge, register


@dataclass
class CompacterConfig(BottleneckConfig):
    """`division`: n, of which `bottleneck_size` and the model's width must be multiples; `rank`: k; `init_std`: of the
    A_i."""

    division: int = 4
    rank: int = 1
    init_std: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "COMPACTER"
        for name in ("division", "rank"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be an integer above 0, not {value!r}")
        if self.bottleneck_size % self.division:
            raise ValueError(f"bottleneck_size must be a multiple of division={self.division}")


def kronecker_sum(rule: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """sum_i A_i (x) (s_i t_i). rule: (n, n, n), left: (n, in / n, k), right: (n, k, out / n); result: (in, out)."""
    n = len(rule)
    product = torch.einsum("iab,icd->acbd", rule, left @ right)
    return product.reshape(n * left.shape[1], n * right.shape[2])


class CompacterLinear(AdapterLayer):
    """Equation: y = h + s (f(h W_down + b_down) W_up + b_up), h = base_layer(x), both W as `kronecker_sum` makes them.

    Shapes: h, y: (..., d); W_down: (d, r), W_up: (r, d). s_i and t_i start as Glorot's uniform, the A_i near zero.
    """

    compacter_rule: AdapterParameters
    adapter_layer_names = (
        "compacter_rule",
        *(f"compacter_{side}_{part}" for side in ("down", "up") for part in ("left", "right", "bias")),
    )
    other_param_names = ("scaling",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        for name in self.adapter_layer_names:
            setattr(self, name, AdapterParameters())
        self.activation: dict[str, nn.Module] = {}
        self.scaling: dict[str, float] = {}

    def share(self, adapter_name: str, rule: nn.Parameter) -> None:
        """Gives the layer the A_i that all layers share; before `update_layer`."""
        self.compacter_rule[adapter_name] = rule

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds 2 k (d + r) + r + d weights, and n^3 in the whole model."""
        n, rank, width, inner = config.division, config.rank, checked_width(self), config.bottleneck_size
        device = self.weight.device
        for side, inward, outward in (("down", width, inner), ("up", inner, width)):
            for part, shape in (("left", (n, inward // n, rank)), ("right", (n, rank, outward // n))):
                factor = nn.Parameter(torch.empty(shape, device=device))
                for slice_ in factor:
                    nn.init.xavier_uniform_(slice_)
                getattr(self, f"compacter_{side}_{part}")[adapter_name] = factor
            getattr(self, f"compacter_{side}_bias")[adapter_name] = nn.Parameter(torch.zeros(outward, device=device))
        self.activation[adapter_name] = ACT2FN[config.non_linearity]
        self.scaling[adapter_name] = config.scaling

    def project(self, adapter_name: str, side: str, x: torch.Tensor) -> torch.Tensor:
        """One of the two projections ("down", "up"); x: (..., in), result: (..., out)."""
        parts = (getattr(self, f"compacter_{side}_{part}") for part in ("left", "right", "bias"))
        left, right, bias = (part[adapter_name] for part in parts)
        return x.to(left.dtype) @ kronecker_sum(self.compacter_rule[adapter_name], left, right) + bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., d)."""
        y = h = self.base_layer(x)
        for name in self.in_use():
            up = self.project(name, "up", self.activation[name](self.project(name, "down", h)))
            y = torch.add(y, up.to(h.dtype), alpha=self.scaling[name])
        return y

    merge = refuse_merge


class CompacterTuner(BottleneckTuner):
    """Refuses widths that the division doesn't divide."""

    method = "compacter"
    prefix = "compacter_"
    tuner_layer_cls = CompacterLinear

    def wrap(self, name: str, module: nn.Module, config: Any) -> CompacterLinear:
        return CompacterLinear(module)

    def _create_and_replace(self, peft_config: Any, adapter_name: str, target: Any, *args: Any, **kwargs: Any) -> None:
        width, n = output_width(target), peft_config.division
        if width is None or width % n:
            raise ValueError(f"compacter: division={n} doesn't divide the width {width}")
        layer = target if isinstance(target, CompacterLinear) else self.wrap(kwargs["current_key"], target, peft_config)
        layer.share(adapter_name, self._rule(adapter_name, peft_config, layer.weight.device))
        super()._create_and_replace(peft_config, adapter_name, layer, *args, **kwargs)

    def _rule(self, adapter_name: str, config: CompacterConfig, device: torch.device) -> nn.Parameter:
        """The adapter's A_i: those of the first layer, (n, n, n)."""
        for module in self.model.modules():
            if isinstance(module, CompacterLinear) and adapter_name in module.compacter_rule:
                rule: Any = module.compacter_rule[adapter_name]
                return rule
        n = config.division
        return nn.Parameter(torch.empty(n, n, n, device=device).normal_(std=config.init_std))


register("COMPACTER", config_class=CompacterConfig, tuner_class=CompacterTuner, prefix="compacter_")
