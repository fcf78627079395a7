"""Frozen weights kept in bfloat16, for runs under autocast: half of their memory, and the same numbers.

Autocast rounds the weight of a linear layer to bfloat16 (8 bits of precision) at every use. Where nothing but that
product reads a frozen weight, it may as well be rounded once. Everything else stays in 32 bits: embeddings, norms and
biases, which other operations read unrounded; a weight that several modules share, as tied embeddings do; task heads,
which compute in 32 bits (`models.heads`); all that is trained, and what an adapter adds.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from peftbench.models.parameters import in_head

#: Modules whose weight one matrix product reads, and nothing else. GPT-2's `Conv1D` is a linear layer, transposed.
#: Subclasses may read their weight otherwise.
_LINEAR = (nn.Linear, Conv1D)


def weights(model: nn.Module, head: Sequence[str]) -> dict[str, nn.Parameter]:
    """The weights, by name, that may be kept in bfloat16 once they are frozen: 32-bit ones of the base's linear layers,
    each a layer's own, outside the modules named `head`."""
    uses = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    added = {id(module) for layer in model.modules() if isinstance(layer, BaseTunerLayer) for module in _added(layer)}
    candidates = {
        f"{name}.weight": module.weight
        for name, module in model.named_modules()
        if type(module) in _LINEAR and not in_head(name, head) and id(module) not in added
    }
    return {name: p for name, p in candidates.items() if uses[id(p)] == 1 and p.dtype == torch.float32}


def frozen(model: nn.Module, head: Sequence[str]) -> dict[str, nn.Parameter]:
    """Those of `weights` that aren't trained."""
    return {name: p for name, p in weights(model, head).items() if not p.requires_grad}


def store(parameters: Iterable[nn.Parameter]) -> None:
    """Rounds parameters to bfloat16, in place: they stay the same objects."""
    for p in parameters:
        p.data = p.data.to(torch.bfloat16)


@contextlib.contextmanager
def in_32_bits(module: Any) -> Iterator[None]:
    """A module's bfloat16 weights are in 32 bits within the block, and rounded after it: an adapter that is merged
    computes with the sum, of which some mix types that torch doesn't multiply."""
    rounded = [p for p in module.parameters() if p.dtype == torch.bfloat16]
    for p in rounded:
        p.data = p.data.float()
    try:
        yield
    finally:
        store(rounded)


def _added(layer: nn.Module) -> Iterator[nn.Module]:
    """The modules that an adapter's layer has beside the one that it wraps."""
    for name, child in layer.named_children():
        if name != "base_layer":
            yield from child.modules()
