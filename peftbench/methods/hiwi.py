"""HiWi: a small network is applied to biases or weights, not to hidden states, and then thrown away.

Source: Liao, Meng and Monz, "Parameter-Efficient Fine-Tuning without Introducing New Latency", arXiv 2305.16742, the
part on HiWi: theta <- theta + f(theta W_down + c) W_up, theta being the biases (or the weights' rows) of the two
feed-forward layers. After training only the new theta is needed: inference costs nothing.
Without c, which starts as a new linear layer's bias does, biases that are zero could never move.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import nn
from transformers.activations import ACT2FN
from transformers.pytorch_utils import Conv1D

from peftbench.methods.bitfit import BitFitConfig
from peftbench.methods.hub import Hub
from peftbench.methods.tuners.adapter import AdapterParameters, register
from peftbench.methods.tuners.attribute import attribute
from peftbench.methods.tuners.rewrite import rewrite
from peftbench.methods.tuners.shift import Shift, ShiftedLinear, ShiftTuner


@dataclass
class HiwiConfig(PeftConfig):
    """`bottleneck_size`: r; `part`: "bias" or "weight"; `input_modules`, `target_modules`: the feed-forward blocks'
    first and last projections. `modules_to_save`: trained whole, i.e. the task head. Raises ValueError for another
    `part` or r."""

    bottleneck_size: int = 16
    part: str = "bias"
    non_linearity: str = "relu"
    input_modules: list[str] | str | None = None
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "HIWI"
        if self.part not in ("bias", "weight"):
            raise ValueError(f"part must be bias or weight, not {self.part!r}")
        if type(self.bottleneck_size) is not int or self.bottleneck_size < 1:
            raise ValueError(f"bottleneck_size must be an integer above 0, not {self.bottleneck_size!r}")


class HiwiLinear(ShiftedLinear):
    """db = f(b W_down + c) W_up, b: (out,), W_down: (out, r), c: (r,), W_up: (r, out); or dW = f(W W_down + c) W_up, W:
    (out, in), W_down: (in, r), W_up: (r, in). W_up is zero at the start, W_down and c drawn as a linear layer's are."""

    adapter_layer_names = ("hiwi_down", "hiwi_up")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.hiwi_down, self.hiwi_up = nn.ModuleDict(), AdapterParameters()
        self.part: dict[str, str] = {}
        self.activation: dict[str, nn.Module] = {}

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds 2 d r + r weights, d being the width of the rows that are changed."""
        self.part[adapter_name], self.activation[adapter_name] = config.part, ACT2FN[config.non_linearity]
        width = self._rows(adapter_name).shape[1]
        place: dict[str, Any] = {"device": self.weight.device, "dtype": torch.float32}
        self.hiwi_down[adapter_name] = nn.Linear(width, config.bottleneck_size, **place)
        self.hiwi_up[adapter_name] = nn.Parameter(torch.zeros(config.bottleneck_size, width, **place))

    def _rows(self, adapter_name: str) -> Any:
        """theta, (rows, d): the pretrained one also while it is merged."""
        pretrained: tuple[Any, Any] = self._plain or (self.base_layer.weight, self.base_layer.bias)
        weight, bias = pretrained
        if self.part[adapter_name] == "bias":
            return bias[None]
        return weight.T if isinstance(self.base_layer, Conv1D) else weight

    def shift(self, adapter_name: str) -> Shift:
        down, up = self.hiwi_down[adapter_name], self.hiwi_up[adapter_name]
        change = self.activation[adapter_name](down(self._rows(adapter_name).to(up.dtype))) @ up
        if self.part[adapter_name] == "bias":
            return None, change[0]
        return change.T if isinstance(self.base_layer, Conv1D) else change, None


class HiwiTuner(ShiftTuner):
    """Refuses layers without a bias where biases are to be changed."""

    method = "hiwi"
    prefix = "hiwi_"
    tuner_layer_cls = HiwiLinear
    target_fields = ("input_modules", "target_modules")

    def reads_weights(self) -> bool:
        configs: dict[str, Any] = self.peft_config
        return any(config.part == "weight" for config in configs.values())

    def _create_and_replace(self, peft_config: Any, adapter_name: str, target: Any, *args: Any, **kwargs: Any) -> None:
        if peft_config.part == "bias" and target.bias is None:
            raise ValueError(f"hiwi: {kwargs['current_key']} has no bias to change")
        super()._create_and_replace(peft_config, adapter_name, target, *args, **kwargs)


class Hiwi(Hub):
    """Saved without the network: as the BitFit adapter that the new biases are."""

    def save(self, model: nn.Module, folder: Path) -> None:
        super().save(model, folder)
        layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, HiwiLinear)}
        adapter = attribute(model, "active_adapter", str)
        with torch.no_grad():
            biases: dict[str, Any] = {f"{n}.bitfit_delta": layer.shift(adapter)[1] for n, layer in layers.items()}
        targets = [name.removeprefix("base_model.model.") for name in layers]
        changed = {"peft_type": "BITFIT", "target_modules": targets}
        rewrite(folder, drop="hiwi_", add=biases, kind=BitFitConfig, config=changed)


register("HIWI", config_class=HiwiConfig, tuner_class=HiwiTuner, prefix="hiwi_")
