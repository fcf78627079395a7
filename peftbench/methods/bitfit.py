"""BitFit: the biases of the base model are trained and nothing else.

Source: Ben Zaken et al., "BitFit", arXiv 2106.10199, section 3; the task head is trained as well.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftConfig
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from peftbench.methods.tuners.adapter import AdapterLayer, AdapterParameters, AdapterTuner, register


@dataclass
class BitFitConfig(PeftConfig):
    """`target_modules`: the layers whose bias is trained; None: every Linear, LayerNorm or Conv1D
    that has one. Biases kept elsewhere (convolutions, DeBERTa-v1's `q_bias`) stay frozen.
    `modules_to_save`: trained whole, i.e. the task head. peft adds it itself for sequence
    classification; name it for token classification, where peft adds it after the tuner has run.
    """

    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "BITFIT"


class BitFitLayer(AdapterLayer):
    """Equation: y = k(x; W, b + d), k being the base layer's own kernel and b, d: (out,).

    d (`bitfit_delta`) is zero at the start and gets the gradient that b would get: without weight
    decay, training d is training b. With it, b + d decays to the pretrained bias, not to zero.
    """

    adapter_layer_names = ("bitfit_delta",)

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self.bitfit_delta = AdapterParameters()
        self._plain_bias: torch.Tensor | None = None

    @abstractmethod
    def kernel(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """The base layer with another bias; x: (..., in), bias: (out,), result: (..., out)."""

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds a zero delta of shape (out,)."""
        self.bitfit_delta[adapter_name] = nn.Parameter(torch.zeros_like(self.base_layer.bias))

    def get_delta(self, adapter_name: str) -> torch.Tensor:
        """d, (out,). KeyError if the adapter isn't in this layer."""
        return self.bitfit_delta[adapter_name]

    def _shifted(self, bias: torch.Tensor, adapter_names: list[str]) -> torch.Tensor:
        # Deltas are float32 on a half-precision base: add first, round once.
        return sum((self.bitfit_delta[name] for name in adapter_names), bias).to(bias.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., out)."""
        if self.disable_adapters:
            self.unmerge()
        if self.merged or not (names := self.in_use()):
            return self.base_layer(x)
        return self.kernel(x, self._shifted(self.base_layer.bias, names))

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """b <- b + d. ValueError if `safe_merge` and the result isn't finite."""
        wanted = check_adapters_to_merge(self, adapter_names)
        names = [*self.merged_adapters, *(name for name in wanted if name in self.bitfit_delta)]
        plain: Any = self._plain_bias if self.merged else self.base_layer.bias.clone()
        merged = self._shifted(plain, names)
        if safe_merge and not torch.isfinite(merged).all():
            raise ValueError(f"bitfit: the bias merged with {names} is not finite")
        self.base_layer.bias.copy_(merged)  # in place: it may be tied to another parameter
        self._plain_bias, self.merged_adapters = plain, names

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the pretrained bias back, to the last bit (b + d - d would be rounded)."""
        if self.merged:
            self.base_layer.bias.copy_(self._plain_bias)
            self._plain_bias, self.merged_adapters = None, []


# The kernels are spelt out: swapping the bias by `functional_call` takes 50 us a layer.
class BitFitLinear(BitFitLayer):
    """y = x W^T + (b + d)."""

    def kernel(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.base_layer.weight, bias)


class BitFitConv1DLinear(BitFitLayer):
    """y = x W + (b + d). By "Linear" in its name peft's "all-linear" knows an adapted layer."""

    def kernel(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        rows = torch.addmm(bias, x.reshape(-1, x.shape[-1]), self.base_layer.weight)
        return rows.view(*x.shape[:-1], -1)


class BitFitLayerNorm(BitFitLayer):
    """y = (x - mean) / sqrt(variance + eps) * w + (b + d)."""

    def kernel(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        base = self.base_layer
        return F.layer_norm(x, base.normalized_shape, base.weight, bias, base.eps)


LAYERS: dict[type[nn.Module], type[BitFitLayer]] = {
    nn.Linear: BitFitLinear,
    Conv1D: BitFitConv1DLinear,
    nn.LayerNorm: BitFitLayerNorm,
}


class BitFitTuner(AdapterTuner):
    """Refuses with ValueError what has no bias (Llama, T5) or a forward of its own (quantised)."""

    method = "bitfit"
    prefix = "bitfit_"
    tuner_layer_cls = BitFitLayer

    def is_default_target(self, module: nn.Module) -> bool:
        return isinstance(module, tuple(LAYERS)) and module.bias is not None

    def check_target(self, name: str, module: nn.Module) -> None:
        kind: Any = type(module)
        if getattr(module, "bias", None) is None:
            raise ValueError(f"bitfit: {name} ({kind.__name__}) has no bias to train")
        if not any(issubclass(kind, layer_class) and kind.forward is layer_class.forward for layer_class in LAYERS):
            raise ValueError(f"bitfit: {name} is a {kind.__name__}, whose bias can't be shifted")

    def wrap(self, name: str, module: nn.Module, config: Any) -> BitFitLayer:
        return next(LAYERS[layer_class] for layer_class in LAYERS if isinstance(module, layer_class))(module)

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        # a head's own biases don't count: T5ForSequenceClassification has some, T5 has none
        backbone = getattr(model, "base_model", model)
        has_bias = any(self.is_default_target(module) for module in backbone.modules())
        if peft_config.target_modules is None and not has_bias:
            raise ValueError(f"bitfit: no layer of {type(backbone).__name__} has a bias to train")
        super()._prepare_model(peft_config, model)


register("BITFIT", config_class=BitFitConfig, tuner_class=BitFitTuner, prefix="bitfit_")
