"""A model's parameters: in groups for an optimiser, counted, and those of the task head."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from peftbench.models import quantization


def groups(model: nn.Module) -> list[dict[str, Any]]:
    """Trained parameters in two groups of an optimiser: matrices with the recipe's weight decay, and vectors (biases,
    norms, scales) without (`"weight_decay": 0`)."""
    return split([p for p in model.parameters() if p.requires_grad])


def split(trained: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """The two groups of `groups`, made of these parameters; an empty one is left out."""
    matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    return [g for g in ({"params": matrices}, {"params": vectors, "weight_decay": 0.0}) if g["params"]]


def at_rate(groups: Iterable[dict[str, Any]], chosen: set[int], lr: float | None) -> list[dict[str, Any]]:
    """Parameter groups in which the parameters whose `id` is among the chosen have this learning rate; None: the groups
    as they are."""
    if lr is None:
        return list(groups)
    split_groups = []
    for group in groups:
        apart = [p for p in group["params"] if id(p) in chosen]
        rest = [p for p in group["params"] if id(p) not in chosen]
        split_groups += [{**group, "params": rest}] if rest else []
        split_groups += [{**group, "params": apart, "lr": lr}] if apart else []
    return split_groups


#: Parameter groups -> an optimiser of them.
MakeOptimizer = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]


def count(model: nn.Module, head: list[str]) -> dict[str, int | None]:
    """Numbers of weights: `trainable`, those of them in the `head` and outside it (`adapter`), and the model's `total`.

    Call it once the optimiser is built: LoRA-FA freezes weights only then. peft keeps the untrained head
    (`original_module`) beside the trained copy; it isn't counted.
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
    """True if a parameter belongs to the task head, by its dotted name."""
    return not set(head).isdisjoint(name.split("."))
