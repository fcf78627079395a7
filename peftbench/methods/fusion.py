"""AdapterFusion: finished adapters stay as they are, attention over their outputs is trained.

Source: Pfeiffer et al., "AdapterFusion: Non-Destructive Task Composition for Transfer Learning", arXiv 2005.00247,
section 3.2. In every layer, at every token, with h what the adapters read and z_n what the n-th puts out, (..., d):
s = softmax_n((h Q) . (z_n K)), y = h + sum_n s_n z_n V; Q, K, V: (d, d). V starts as the identity and is drawn to it:
the loss has `regularisation` * ||V - I||^2 more.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from torch import nn

from peftbench.config.types import RunConfig
from peftbench.data.batch import Batch
from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.bottleneck import BottleneckTuner, checked_width
from peftbench.methods.hub import Hub
from peftbench.methods.tuners import bank
from peftbench.methods.tuners.adapter import AdapterParameters, refuse_merge, register


@dataclass
class FusionConfig(PeftConfig):
    """`count`, `bottleneck_size` (the largest), `non_linearity`: of the fused adapters, which are saved with the
    fusion; `target_modules`: where they are. `modules_to_save`: trained whole, i.e. the task head."""

    count: int = 0
    bottleneck_size: int = 0
    non_linearity: str = "relu"
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "FUSION"


class FusionLinear(bank.BankLayer):
    """`fusion_query`: Q, `fusion_key`: K from N(0, 0.02^2), `fusion_value`: V, (d, d) each."""

    fusion_query: AdapterParameters
    fusion_key: AdapterParameters
    fusion_value: AdapterParameters
    adapter_layer_names = ("fusion_query", "fusion_key", "fusion_value")
    other_param_names = tuple(f"fusion_bank_{part}" for part in ("down", "down_bias", "up", "up_bias"))
    bank = "fusion_bank_"

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        for name in self.adapter_layer_names:
            setattr(self, name, AdapterParameters())
        self.make_banks()

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds 3 d^2 trained weights and n (2 d r + r + d) frozen ones."""
        width, device = checked_width(self), self.weight.device
        self.add_bank(adapter_name, (config.count, config.bottleneck_size, width), config.non_linearity)
        for part in (self.fusion_query, self.fusion_key):
            part[adapter_name] = nn.Parameter(nn.init.normal_(torch.empty(width, width, device=device), std=0.02))
        self.fusion_value[adapter_name] = nn.Parameter(torch.eye(width, device=device))

    def fuse(self, adapter_name: str, h: torch.Tensor) -> torch.Tensor:
        """sum_n s_n z_n V; h, result: (..., d)."""
        query, key, value = (getattr(self, name)[adapter_name] for name in self.adapter_layer_names)
        z = torch.stack([self.frozen(adapter_name, n, h) for n in range(self.count(adapter_name))])  # (n, ..., d)
        scores = torch.einsum("...d,n...d->...n", h.to(query.dtype) @ query, z @ key)
        return torch.einsum("...n,n...d->...d", scores.softmax(dim=-1), z @ value)

    def off_identity(self, adapter_name: str) -> torch.Tensor:
        """||V - I||^2."""
        value = self.fusion_value[adapter_name]
        return (value - torch.eye(len(value), device=value.device)).square().sum()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., d)."""
        y = h = self.base_layer(x)
        for name in self.in_use():
            y = y + self.fuse(name, h).to(h.dtype)
        return y

    merge = refuse_merge


class FusionTuner(BottleneckTuner):
    """Attention over frozen bottlenecks."""

    method = "adapter_fusion"
    prefix = "fusion_"
    tuner_layer_cls = FusionLinear

    def wrap(self, name: str, module: nn.Module, config: Any) -> FusionLinear:
        return FusionLinear(module)


class AdapterFusion(Hub):
    """`inputs`: the finished adapters, records or folders; `args.regularisation`: how V is drawn to the identity."""

    _model: Any
    _saved: list[bank.Saved]

    def refusal(self, config: RunConfig) -> str | None:
        missing = [name for name, path in self.config.inputs.items() if path is None]
        if missing:
            return f"needs method.inputs.{missing[0]}=<a finished run's record, or an adapter's folder>"
        return super().refusal(config)

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        """Raises ConfigError for fewer than two adapters, what isn't one, and adapters that don't fit each other."""
        if len(self.config.inputs) < 2:
            raise ConfigError("method.inputs: fusion needs two adapters or more")
        self._saved = [bank.read(f"method.inputs.{n}", path or "") for n, path in self.config.inputs.items()]
        first = self._saved[0]
        for name, other in zip(self.config.inputs, self._saved, strict=True):
            if other.modules.keys() != first.modules.keys():
                raise ConfigError(f"method.inputs.{name}: that adapter is in other modules than the first")
            if other.config["non_linearity"] != first.config["non_linearity"]:
                raise ConfigError(f"method.inputs.{name}: that adapter has another non_linearity than the first")
        return {
            "count": len(self._saved),
            "bottleneck_size": max(saved.config["bottleneck_size"] for saved in self._saved),
            "non_linearity": first.config["non_linearity"],
            "target_modules": list(first.modules),
        }

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        self._model = super().inject(model, config, context)
        for name, layer in self._model.get_base_model().named_modules():
            if isinstance(layer, FusionLinear):
                for place, saved in enumerate(self._saved):
                    layer.fill(self._model.active_adapter, place, saved.modules[name])
        return self._model

    def loss(self, task_loss: torch.Tensor, outputs: Any, batch: Batch) -> torch.Tensor:
        name = self._model.active_adapter
        apart = [m.off_identity(name) for m in self._model.modules() if isinstance(m, FusionLinear)]
        return task_loss + self.config.args["regularisation"] * torch.stack(apart).sum()


register("FUSION", config_class=FusionConfig, tuner_class=FusionTuner, prefix="fusion_")
