"""Linear layers whose weight and bias are shifted by an adapter: what selective methods share."""

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from peftbench.methods.tuners.adapter import AdapterLayer, AdapterTuner

Shift = tuple[torch.Tensor | None, torch.Tensor | None]
Weights = tuple[torch.Tensor, torch.Tensor | None]


def plain_linear(module: nn.Module) -> bool:
    """True for a Linear or Conv1D with its class's own forward; quantised ones have another, and packed weights."""
    kinds = {nn.Linear: nn.Linear.forward, Conv1D: Conv1D.forward}
    return any(isinstance(module, kind) and type(module).forward is forward for kind, forward in kinds.items())


class ShiftedLinear(AdapterLayer):
    """Equation: y = x (W + dW)^T + (b + db); W: (out, in), on a Conv1D (in, out) and not transposed; b: (out,)."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__(base_layer)
        self._plain: Weights | None = None

    @abstractmethod
    def shift(self, adapter_name: str) -> Shift:
        """dW and db of an adapter in the shapes of W and b; None: not shifted."""

    def _shifted(self, weight: torch.Tensor, bias: torch.Tensor | None, names: list[str]) -> Weights:
        both: list[Any] = [weight, bias]
        for name in names:
            # Adapters are float32 on a half-precision base: add first, round once.
            for place, change in enumerate(self.shift(name)):
                both[place] = both[place] if change is None else both[place] + change
        rounded: list[Any] = [None if tensor is None else tensor.to(weight.dtype) for tensor in both]
        return rounded[0], rounded[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., out)."""
        if self.disable_adapters:
            self.unmerge()
        if self.merged or not (names := self.in_use()):
            return self.base_layer(x)
        base = self.base_layer
        weight, bias = self._shifted(base.weight, base.bias, names)
        if not isinstance(base, Conv1D):
            return F.linear(x, weight, bias)
        assert bias is not None, "a Conv1D has a bias"
        return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """W <- W + dW, b <- b + db. ValueError if `safe_merge` and the result isn't finite."""
        wanted = check_adapters_to_merge(self, adapter_names)
        present = getattr(self, self.adapter_layer_names[0])
        names, base = [*self.merged_adapters, *(name for name in wanted if name in present)], self.base_layer
        plain = self._plain or (base.weight.clone(), None if base.bias is None else base.bias.clone())
        merged = self._shifted(plain[0], plain[1], names)
        if safe_merge and not all(torch.isfinite(t).all() for t in merged if t is not None):
            raise ValueError(f"the weights merged with {names} are not finite")
        self._put(merged)
        self._plain, self.merged_adapters = plain, names

    def _put(self, tensors: Shift) -> None:
        for pretrained, new in zip((self.base_layer.weight, self.base_layer.bias), tensors, strict=True):
            if new is not None:
                pretrained.copy_(new)  # In place: it may be tied to another parameter.

    @torch.no_grad()
    def unmerge(self) -> None:
        """Puts the pretrained weights back, to the last bit (W + dW - dW would be rounded)."""
        if self._plain is not None:
            self._put(self._plain)
            self._plain, self.merged_adapters = None, []


class ShiftTuner(AdapterTuner):
    """Refuses with ValueError what is no Linear or Conv1D, or has a forward of its own (quantised)."""

    def reads_weights(self) -> bool:
        """The sum of weight and shift is rounded once."""
        return True

    def check_target(self, name: str, module: nn.Module) -> None:
        if not plain_linear(module):
            raise ValueError(f"{self.method}: {name} is a {type(module).__name__}, whose weights can't be shifted")

    def wrap(self, name: str, module: nn.Module, config: Any) -> Any:
        layer: Any = self.tuner_layer_cls
        return layer(module)
