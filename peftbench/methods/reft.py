"""LoReFT: hidden states of chosen tokens are edited in a low-rank subspace, weights stay as they are.

Source: Wu et al., "ReFT: Representation Finetuning for Language Models", arXiv 2404.03592, section 3.2, equation 2:
h + R^T (W h + b - R h). R: (r, d) with orthonormal rows, W: (r, d), b: (r,). Applied to the output of transformer
layers at the first and the last tokens of the input, one intervention a layer for all of them.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from peftbench.methods.base import Context
from peftbench.methods.hub import Hub
from peftbench.methods.tuners.adapter import (
    AdapterLayer,
    AdapterParameters,
    MaskedTuner,
    TokenMask,
    refuse_merge,
    register,
)
from peftbench.models import layers


@dataclass
class ReftConfig(PeftConfig):
    """`rank`: r; `first`, `last`: how many tokens at either end; `target_modules`: the layers. `modules_to_save`:
    trained whole, i.e. the task head. Raises ValueError for a rank below 1 or no tokens."""

    rank: int = 4
    first: int = 3
    last: int = 3
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "REFT"
        for name, least in {"rank": 1, "first": 0, "last": 0}.items():
            if type(getattr(self, name)) is not int or getattr(self, name) < least:
                raise ValueError(f"{name} must be an integer of at least {least}, not {getattr(self, name)!r}")
        if self.first + self.last == 0:
            raise ValueError("first and last can't both be 0: no token would be edited")


def ends(mask: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """The first and the last real tokens. mask, result: (n, length), ones and zeros, on either side padded."""
    mask = mask.long()
    front = mask.cumsum(dim=1)
    back = mask.sum(dim=1, keepdim=True) - front + 1
    return mask.bool() & ((front <= first) | (back <= last))


class ReftLayer(AdapterLayer):
    """Wraps a transformer layer, whose output is a tensor (n, length, d) or has it in front.

    R is the Q of the QR decomposition of `reft_rotation`, (d, r), transposed: any R with orthonormal rows can be
    reached. With several adapters active the later sees what the earlier gave.
    """

    adapter_layer_names = ("reft_rotation", "reft_weight", "reft_bias")
    other_param_names = ("positions",)

    def __init__(self, base_layer: nn.Module, width: int, reading: TokenMask) -> None:
        super().__init__(base_layer)
        self.reft_rotation, self.reft_weight, self.reft_bias = (AdapterParameters() for _ in range(3))
        self.positions: dict[str, tuple[int, int]] = {}
        self.width, self.reading = width, reading

    def __getattr__(self, name: str) -> Any:
        """Delegates to the wrapped layer: models read attributes of their layers."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds 2 d r + r weights: W and b as a new linear layer's, R at random."""
        linear = nn.Linear(self.width, config.rank, device=next(self.base_layer.parameters()).device)
        rotation = nn.init.normal_(torch.empty(self.width, config.rank, device=linear.weight.device))
        self.reft_rotation[adapter_name] = nn.Parameter(rotation)
        self.reft_weight[adapter_name], self.reft_bias[adapter_name] = linear.weight, linear.bias
        self.positions[adapter_name] = (config.first, config.last)

    def edit(self, adapter_name: str, h: torch.Tensor) -> torch.Tensor:
        """R^T (W h + b - R h) of every token; h, result: (n, length, d)."""
        r_t = torch.linalg.qr(self.reft_rotation[adapter_name]).Q  # (d, r)
        h = h.to(r_t.dtype)
        return (h @ self.reft_weight[adapter_name].T + self.reft_bias[adapter_name] - h @ r_t) @ r_t.T

    def _chosen(self, adapter_name: str, h: torch.Tensor) -> torch.Tensor | None:
        """The mask of edited tokens, (n, length, 1). None while an answer is generated: the input's tokens are past."""
        mask = self.reading.mask
        if mask is None:
            mask = torch.ones(h.shape[:2], device=h.device)
        if mask.shape[1] != h.shape[1]:
            return None
        copies = len(h) // len(mask)  # Beams.
        return ends(mask, *self.positions[adapter_name]).repeat_interleave(copies, dim=0)[..., None]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The wrapped layer's arguments and result, its hidden states edited."""
        output = self.base_layer(*args, **kwargs)
        h = output if isinstance(output, torch.Tensor) else output[0]
        for name in self.in_use():
            chosen = self._chosen(name, h)
            if chosen is not None:
                h = h + (chosen * self.edit(name, h)).to(h.dtype)
        return h if isinstance(output, torch.Tensor) else type(output)((h, *output[1:]))

    merge = refuse_merge


class ReftTuner(MaskedTuner):
    """Layers that read the input; in a decoder beside an encoder the input's tokens aren't."""

    method = "reft"
    prefix = "reft_"
    tuner_layer_cls = ReftLayer
    _check_merge_allowed = refuse_merge

    def check_target(self, name: str, module: nn.Module) -> None:
        """Accepts any module: all will do that put out hidden states."""

    def wrap(self, name: str, module: nn.Module, config: ReftConfig) -> ReftLayer:
        return ReftLayer(module, self.model.config.hidden_size, self.reading)


class Reft(Hub):
    """Every layer, in an encoder-decoder every layer of the encoder, if `adapter.target_modules` doesn't say which."""

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        if "target_modules" in (self.config.adapter or {}):
            return {}
        stacks = {name: len(stack) for name, stack in layers.stacks(model).items()}
        read = {n: size for n, size in stacks.items() if len(stacks) == 1 or "encoder" in n.split(".")}
        return {"target_modules": [f"{name}.{i}" for name, size in read.items() for i in range(size)]}


register("REFT", config_class=ReftConfig, tuner_class=ReftTuner, prefix="reft_")
