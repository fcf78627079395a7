"""UniPELT: LoRA, prefixes and a bottleneck adapter in every layer, each behind a gate that the input opens.

Source: Mao et al., "UniPELT: A Unified Framework for Parameter-Efficient Language Model Tuning", arXiv 2110.07577,
section 3. A gate G, (n, 1, 1), is the mean over the sequence of sigmoid(w x + c), x: (n, length, d) being what the
sub-layer reads.
- LoRA: y = W x + G s B A x, for queries and values, a gate each;
- prefixes: P_k and P_v times G;
- adapter behind the feed-forward block: y = h + G (W_up f(W_down h + b_down) + b_up), G from the block's input.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftbench.methods.bottleneck import BottleneckLinear, checked_width
from peftbench.methods.mam import MamConfig, PrefixTuner
from peftbench.methods.parallel import Tap, tap_before
from peftbench.methods.tuners import prefix_attention
from peftbench.methods.tuners.adapter import AdapterLayer, MaskedTuner, TokenMask, names_module, register
from peftbench.methods.tuners.prefix_attention import PrefixLinear


@dataclass
class UniPeltConfig(MamConfig):
    """`lora_modules`: the projections that get a LoRA of rank `lora_r` and factor `lora_alpha` / `lora_r`."""

    lora_modules: list[str] | str | None = None
    lora_r: int = 8
    lora_alpha: float = 16.0
    prefix_length: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "UNIPELT"
        if type(self.lora_r) is not int or self.lora_r < 1:
            raise ValueError(f"lora_r must be an integer above 0, not {self.lora_r!r}")


def gate(linear: nn.Linear, x: torch.Tensor, reading: TokenMask) -> torch.Tensor:
    """The mean over real tokens of sigmoid(w x + c). x: (n, length, d), result: (n, 1, 1)."""
    opened = torch.sigmoid(linear(x.to(linear.weight.dtype)))
    if reading.mask is None:
        return opened.mean(dim=1, keepdim=True)
    mask = reading.mask[..., None].to(opened.dtype)
    return (opened * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)


class GatedAttentionLinear(PrefixLinear):
    """A projection of attention: gated LoRA where `lora`, the gated prefix where `prefixed`."""

    # By adapter an nn.Linear each; an nn.ModuleDict says no more than nn.Module.
    hybrid_gate_prefix: Any
    hybrid_gate_lora: Any
    hybrid_lora_a: Any
    hybrid_lora_b: Any
    _prefix_names, _lora_names = ("hybrid_key", "hybrid_value"), ("hybrid_lora_a", "hybrid_lora_b")
    adapter_layer_names = (*_prefix_names, *_lora_names, "hybrid_gate_prefix", "hybrid_gate_lora")

    def __init__(self, base_layer: nn.Module, heads: tuple[int, int], reading: TokenMask, width: int) -> None:
        super().__init__(base_layer, heads)
        for name in (*self._lora_names, "hybrid_gate_prefix", "hybrid_gate_lora"):
            setattr(self, name, nn.ModuleDict())
        self.reading, self.inputs = reading, width
        self.prefixed = self.lora = True
        self.opened: dict[str, torch.Tensor] = {}
        self.scaling: dict[str, float] = {}

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds the prefix's 2 * length * heads * width, LoRA's r (in + out), and in + 1 for each gate."""
        device = self.weight.device
        if self.prefixed:
            super().update_layer(adapter_name, config)
            self.hybrid_gate_prefix[adapter_name] = nn.Linear(self.inputs, 1, device=device)
        if self.lora:
            down = nn.Linear(self.inputs, config.lora_r, bias=False, device=device)
            up = nn.Linear(config.lora_r, checked_width(self), bias=False, device=device)
            nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
            nn.init.zeros_(up.weight)
            self.hybrid_lora_a[adapter_name], self.hybrid_lora_b[adapter_name] = down, up
            self.hybrid_gate_lora[adapter_name] = nn.Linear(self.inputs, 1, device=device)
        self.scaling[adapter_name] = config.lora_alpha / config.lora_r

    def in_use(self) -> list[str]:
        return [] if self.disable_adapters else [name for name in self.active_adapters if name in self.scaling]

    def prefix(self, part: str) -> list[torch.Tensor]:
        return [p * self.opened[name] for p, name in zip(super().prefix(part), self.opened, strict=True)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base_layer(x)
        self.opened = {}
        for name in self.in_use():
            if name in self.hybrid_gate_prefix:
                self.opened[name] = gate(self.hybrid_gate_prefix[name], x, self.reading)[..., None]
            if name in self.hybrid_lora_a:
                low = self.hybrid_lora_a[name](x.to(self.hybrid_lora_a[name].weight.dtype))
                change = gate(self.hybrid_gate_lora[name], x, self.reading) * self.hybrid_lora_b[name](low)
                y = torch.add(y, change.to(y.dtype), alpha=self.scaling[name])
        return y


class GatedFeedForwardLinear(BottleneckLinear):
    """The gated adapter behind a feed-forward block."""

    hybrid_gate: Any  # An nn.ModuleDict: by adapter an nn.Linear.
    adapter_layer_names = ("hybrid_down", "hybrid_act", "hybrid_up", "hybrid_gate")

    def __init__(self, base_layer: nn.Module, tap: Tap, reading: TokenMask) -> None:
        super().__init__(base_layer)
        self.tap, self.reading = tap, reading

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds a bottleneck's 2 d r + r + d weights and d + 1 for the gate."""
        super().update_layer(adapter_name, config)
        self.hybrid_gate[adapter_name] = nn.Linear(checked_width(self), 1, device=self.weight.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, block_input = self.base_layer(x), self.tap.take()
        h = y
        for name in self.in_use():
            opened = gate(self.hybrid_gate[name], block_input, self.reading)
            y = torch.add(y, (opened * self._bottleneck(name, h)).to(h.dtype), alpha=self.scaling[name])
        return y


class UniPeltTuner(PrefixTuner, MaskedTuner):
    """Refuses decoders, where the mean over a sequence would let a token see those behind it."""

    method = "unipelt"
    target_fields = ("prefix_modules", "lora_modules", "target_modules")

    def wrap(self, name: str, module: nn.Module, config: UniPeltConfig) -> AdapterLayer:
        if names_module(config.target_modules, name):
            return GatedFeedForwardLinear(module, tap_before(self.model, name, config.input_modules), self.reading)
        shape = prefix_attention.heads(self.attention_of(name))
        layer = GatedAttentionLinear(module, shape, self.reading, self.model.config.hidden_size)
        layer.prefixed = names_module(config.prefix_modules, name)
        layer.lora = names_module(config.lora_modules, name)
        return layer

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        config: Any = model.config
        attention = (m for m in model.modules() if hasattr(m, "is_causal"))
        if getattr(config, "is_encoder_decoder", False) or any(m.is_causal for m in attention):
            raise ValueError(
                "unipelt: a gate is a mean over the sequence, and this model's tokens mustn't see later ones"
            )
        super()._prepare_model(peft_config, model)


register("UNIPELT", config_class=UniPeltConfig, tuner_class=UniPeltTuner, prefix="hybrid_")
