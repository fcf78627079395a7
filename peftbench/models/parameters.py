"""A model's parameters: grouped for an optimiser, counted, told apart from the task head's."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from peftbench.models import quantization


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Trained parameters in two groups: matrices, which the recipe's weight decay shrinks, and vectors (biases,
    norms, scales), which it leaves alone (`"weight_decay": 0`)."""
    return split([p for p in model.parameters() if p.requires_grad])


def split(trained: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """The two groups of `groups`, of some parameters; empty ones are left out."""
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    return [g for g in ({"params": matrices}, {"params": vectors, "weight_decay": 0.0}) if g["params"]]


def at_rate(groups: Iterable[dict[str, Any]], chosen: set[int], lr: float | None) -> list[dict[str, Any]]:
    """Parameter groups in which the parameters with these ids learn at a rate of their own; None: as they are."""
    if lr is None:
        return list(groups)
    found = []
    for group in groups:
        apart = [p for p in group["params"] if id(p) in chosen]
        rest = [p for p in group["params"] if id(p) not in chosen]
        found += [{**group, "params": rest}] if rest else []
        found += [{**group, "params": apart, "lr": lr}] if apart else []
    return found


#: Parameter groups -> an optimiser of them.
MakeOptimizer = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]


def count(model: nn.Module, head: list[str]) -> dict[str, int | None]:
    """Trainable weights in all, outside the head (`adapter`) and in it; and all weights of the model.

    Read after the optimiser is built: LoRA-FA freezes weights only then. peft keeps the untrained head beside the
    trained copy; that one isn't counted.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if "original_module" not in name.split(".")]
    trained = {name: quantization.numel(p) for name, p in parameters if p.requires_grad}
    in_the_head = sum(size for name, size in trained.items() if in_head(name, head))
    trainable = sum(trained.values())
    return {
        "trainable": trainable,
        "adapter": trainable - in_the_head,
        "head": in_the_head,
        "total": sum(quantization.numel(p) for _, p in parameters),
    }


def in_head(name: str, head: Sequence[str]) -> bool:
    """Whether a parameter belongs to the task head, by its dotted name."""
    return not set(head).isdisjoint(name.split("."))
