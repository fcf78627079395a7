"""Scaled parallel adapters: a bottleneck beside the feed-forward block.

Source: He et al., "Towards a Unified View of Parameter-Efficient Transfer Learning", arXiv 2110.04366, section 3.3 and
Table 1 (parallel adapter, scaled): h <- FFN(x) + s (W_up f(W_down x + b_down) + b_up). W_up starts at zero, W_down as
LoRA's A does (section 4.1: `ffn_init: lora` in its scripts), so that the start is the base model.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftbench.methods.bottleneck import BottleneckConfig, BottleneckLinear, BottleneckTuner
from peftbench.methods.tuners.adapter import names_module, register


@dataclass
class ParallelConfig(BottleneckConfig):
    """`input_modules`: the feed-forward blocks' first projections, whose input the adapters read; `target_modules`:
    their last ones, to whose output they add. `init_std` isn't used."""

    input_modules: list[str] | str | None = None
    non_linearity: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "PARALLEL"


class Tap:
    """Holds what a module is given until it is asked for: how an adapter reads the input of a block whose parts are
    separate modules. Survives `copy.deepcopy` of the model: the hook holds nothing of its own."""

    def __init__(self, module: Any) -> None:
        self.module = module
        if "tapped_input" not in vars(module):
            module.register_forward_pre_hook(_keep_input)
        self.module.tapped_input = None

    def take(self) -> torch.Tensor:
        """The input of the last call, (..., d), which is then let go."""
        x, self.module.tapped_input = self.module.tapped_input, None
        return x


def _keep_input(module: nn.Module, arguments: tuple[Any, ...]) -> None:
    module.tapped_input = arguments[0]


def tap_before(model: nn.Module, name: str, wanted: list[str] | str | None) -> Tap:
    """A tap on the nearest of the `wanted` modules that the model has before the one called `name`.

    Raises ValueError if there is none."""
    nearest = None
    for other, module in model.named_modules():
        if other == name:
            break
        if names_module(wanted, other):
            nearest = module
    if nearest is None:
        raise ValueError(f"input_modules={wanted!r} match nothing before {name}")
    return Tap(nearest)


class ParallelLinear(BottleneckLinear):
    """Equation: y = h + s (W_up f(W_down x + b_down) + b_up), x: (..., d) the block's input, h: (..., d) its output."""

    def __init__(self, base_layer: nn.Module, tap: Tap) -> None:
        super().__init__(base_layer)
        self.tap = tap

    def update_layer(self, adapter_name: str, config: Any) -> None:
        super().update_layer(adapter_name, config)
        down, _, up = self.parts(adapter_name)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., inner), what the block's last projection is given; result: (..., d)."""
        y, block_input = self.base_layer(x), self.tap.take()
        for name in self.in_use():
            y = torch.add(y, self._bottleneck(name, block_input), alpha=self.scaling[name])
        return y


class ParallelTuner(BottleneckTuner):
    """Refuses what has no feed-forward block of one projection in and one out."""

    method = "parallel"
    tuner_layer_cls = ParallelLinear

    def wrap(self, name: str, module: nn.Module, config: ParallelConfig) -> ParallelLinear:
        return ParallelLinear(module, tap_before(self.model, name, config.input_modules))


register("PARALLEL", config_class=ParallelConfig, tuner_class=ParallelTuner, prefix="bottleneck_")
