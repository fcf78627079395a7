"""A task head that computes in 32 bits under mixed precision.

A head in bfloat16 (8 bits of precision) rounds its logits: of 1,500 predicted numbers from 0 to 5 a few dozen different
ones are left, and classes tie.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def in_32_bits(model: nn.Module, head: Sequence[str]) -> nn.Module:
    """The model, whose modules of these names compute in 32 bits, also within autocast.

    Their class is replaced: peft and merging copy modules, and a copy would lose a hook or a replaced method.
    """
    for name, module in model.named_modules():
        *outside, last = name.split(".")
        if last in head and set(head).isdisjoint(outside):
            kind: Any = type(module)  # Hashable, which mypy doesn't see of `type[Any]`.
            module.__class__ = _subclass(kind)
    return model


@functools.cache  # One class for all modules of a class.
def _subclass(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass of the same name whose forward pass is in 32 bits."""

    class In32Bits(kind):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Any, **named: Any) -> Any:
            device = next((x.device.type for x in inputs if isinstance(x, torch.Tensor)), "cpu")
            with torch.autocast(device, enabled=False):
                return super().forward(*map(_float, inputs), **{name: _float(x) for name, x in named.items()})

    In32Bits.__name__, In32Bits.__qualname__ = kind.__name__, kind.__qualname__
    return In32Bits


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
