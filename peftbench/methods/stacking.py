"""Stacked adapters: a bottleneck adapter that is trained on top of a finished one, which stays as it is.

Source: Pfeiffer et al., "MAD-X", arXiv 2005.00052, the part on task adapters: they receive what the language adapter
puts out: y = A_task(A_language(h)), A(h) = h + s (W_up f(W_down h + b_down) + b_up). Not their sum: A_task sees a
changed h.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn

from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.bottleneck import BottleneckConfig, BottleneckLinear, BottleneckTuner, checked_width
from peftbench.methods.hub import Hub
from peftbench.methods.tuners import bank
from peftbench.methods.tuners.adapter import register
from peftbench.methods.tuners.classification import with_head

_KEY = "method.inputs.stack_on"


@dataclass
class StackedConfig(BottleneckConfig):
    """`below_size`, `below_non_linearity`: of the frozen adapter, which is saved with the one on top of it."""

    below_size: int = 0
    below_non_linearity: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "STACKED"


class StackedLinear(BottleneckLinear, bank.BankLayer):
    """Equation: h' = h + (frozen bottleneck)(h), y = h' + s (W_up f(W_down h' + b_down) + b_up), h = base_layer(x)."""

    bank = "bottleneck_below_"
    other_param_names = ("scaling", *(f"bottleneck_below_{part}" for part in ("down", "down_bias", "up", "up_bias")))

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.make_banks()

    def update_layer(self, adapter_name: str, config: Any) -> None:
        super().update_layer(adapter_name, config)
        self.add_bank(adapter_name, (1, config.below_size, checked_width(self)), config.below_non_linearity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base_layer(x)
        for name in self.in_use():
            h = y + self.frozen(name, 0, y).to(y.dtype)
            y = torch.add(h, self._bottleneck(name, h), alpha=self.scaling[name])
        return y


class StackedTuner(BottleneckTuner):
    """Bottlenecks on frozen bottlenecks."""

    method = "stacked"
    tuner_layer_cls = StackedLinear

    def wrap(self, name: str, module: nn.Module, config: Any) -> StackedLinear:
        return StackedLinear(module)


class Stackable(Hub):
    """A bottleneck adapter; on top of another where `inputs.stack_on` names a finished one."""

    _below: bank.Saved | None = None

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        """Raises ConfigError for what is no saved bottleneck adapter."""
        path = self.config.inputs.get("stack_on")
        if path is None:
            return {}
        self._below = bank.read(_KEY, path)
        self._class = with_head(StackedConfig)
        below = self._below.config
        return {"below_size": below["bottleneck_size"], "below_non_linearity": below["non_linearity"]}

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        adapted = super().inject(model, config, context)
        if self._below is not None:
            layers = {n: m for n, m in adapted.get_base_model().named_modules() if isinstance(m, StackedLinear)}
            if layers.keys() != self._below.modules.keys():
                raise ConfigError(f"{_KEY}: that adapter is in other modules than this method's")
            for name, layer in layers.items():
                layer.fill(adapted.active_adapter, 0, self._below.modules[name])
        return adapted


register("STACKED", config_class=StackedConfig, tuner_class=StackedTuner, prefix="bottleneck_")
