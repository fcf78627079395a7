"""Dropout on the CPU at a fifth of torch's cost: its random numbers alone take a fifth of a LoRA step there.

torch draws one float an element; here one 64-bit integer of torch's own generator decides four. The probability is
rounded to a 65536th, and the scale is that of the rounded one, so the expectation stays exact. Seeds, saved random
states and gradient checkpointing work as with torch's dropout. Other devices and evaluation keep torch's own code.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from peftbench.models.transformers_compat import (
    create_position_bias_mask,
    repeat_kv,
    replace_sdpa,
    sdpa_attention_forward,
)

#: Probabilities are multiples of one over this: what 16 random bits can tell apart.
_STEPS = 1 << 16


class _Dropout(torch.autograd.Function):
    """y = x * mask / (1 - p), mask elementwise Bernoulli(1 - p). Keeps one byte an element for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dropped: int) -> torch.Tensor:
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        mask = drawn >= dropped - _STEPS // 2
        ctx.save_for_backward(mask)
        ctx.scale = _STEPS / (_STEPS - dropped)
        return (x * mask).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (mask,) = ctx.saved_tensors
        return (gradient * mask).mul_(ctx.scale), None


def dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    """`F.dropout(x, p, training=True)` with other random numbers."""
    dropped = round(p * _STEPS)
    if x.device.type != "cpu" or not 0 < dropped < _STEPS:
        return F.dropout(x, p)
    return _Dropout.apply(x, dropped)


class Dropout(nn.Dropout):
    """`nn.Dropout` whose random numbers `dropout` draws."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return dropout(input, self.p) if self.training and self.p > 0 else input


def install(model: nn.Module) -> None:
    """Put `Dropout` where a model has nn.Dropout, and have attention drop weights likewise (`install_attention`)."""
    install_attention()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Dropout:
            model.set_submodule(name, Dropout(module.p))


def install_attention() -> None:
    """Put `attention` in the place of transformers' "sdpa", which drops weights by itself: for every model of this
    process."""
    replace_sdpa(attention)


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' "sdpa" attention, written out where it drops weights on the CPU, which torch has no kernel for.

    query: (n, heads, length, width); key, value: (n, key heads, key length, width); mask and bias broadcast to the
    scores (n, heads, length, key length). Returns (n, length, heads, width).
    """
    if dropout == 0 or query.device.type != "cpu" or kwargs.get("cache") is not None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, position_bias, **kwargs
        )
    key, value = (repeat_kv(x, getattr(module, "num_key_value_groups", 1)) for x in (key, value))
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    if attention_mask is None and causal and query.shape[2] > 1:
        position_bias = query.new_zeros(()) if position_bias is None else position_bias
    if position_bias is not None:
        attention_mask = create_position_bias_mask(position_bias, attention_mask, causal, query, key)
    scores = query @ key.transpose(2, 3)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        lowest = torch.finfo(scores.dtype).min
        scores = (
            scores.masked_fill(~attention_mask, lowest)
            if attention_mask.dtype == torch.bool
            else scores + attention_mask
        )
    weights = _attention_dropout(scores.softmax(-1), dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


_attention_dropout = dropout  # `attention` has an argument of that name, which transformers sets.
