"""A task head that computes in 32 bits under mixed precision.

Of a hidden state in bfloat16 (8 bits of precision) a head in bfloat16 makes logits that are rounded likewise: of 1,500
predicted numbers from 0 to 5 a few dozen different ones are left, and ties among classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def in_32_bits(model: nn.Module, head: Sequence[str]) -> nn.Module:
    """The model, with the modules of these names computing in 32 bits, whatever autocast says around them.

    By their class and not by a hook or a function of theirs: peft and merging copy modules, and the copies keep it.
    """
    for name, module in model.named_modules():
        *outside, last = name.split(".")
        if last in head and set(head).isdisjoint(outside):
            module.__class__ = _kind(type(module))
    return model


#: By class, the one that stands for it.
_KINDS: dict[type[nn.Module], type[nn.Module]] = {}


def _kind(kind: type[nn.Module]) -> type[nn.Module]:
    if kind not in _KINDS:
        _KINDS[kind] = _made(kind)
    return _KINDS[kind]


def _made(kind: type[nn.Module]) -> type[nn.Module]:
    class In32Bits(kind):  # type: ignore[misc, valid-type]
        def forward(self, *inputs: Any, **named: Any) -> Any:
            device = next((x.device.type for x in inputs if isinstance(x, torch.Tensor)), "cpu")
            with torch.autocast(device, enabled=False):
                return super().forward(*map(_float, inputs), **{name: _float(x) for name, x in named.items()})

    In32Bits.__name__, In32Bits.__qualname__ = kind.__name__, kind.__qualname__
    return In32Bits


def _float(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
