"""For methods that are initialised from training data (EVA, CorDA, FISH): its first batches, and gradients on them."""

from collections.abc import Iterator

import torch
from torch import nn

from peftbench.data.batch import Batch, part
from peftbench.methods.base import Context


def first_rows(context: Context, *, size: int, batches: int) -> list[Batch]:
    """The first training examples in `batches` batches of `size`, padding cut."""
    rows: list[Batch] = []
    for batch in context.batches():
        for start in range(0, len(batch["labels"]), size):
            rows.append(part(batch, start, start + size))
            if len(rows) == batches:
                return rows
    return rows


def gradients(
    model: nn.Module, context: Context, tensors: list[nn.Parameter], rows: list[Batch]
) -> Iterator[list[torch.Tensor]]:
    """Yields, for each batch, the gradients of the mean task loss in the shapes of `tensors`; in evaluation mode."""
    trained = [p.requires_grad for p in model.parameters()]
    model.requires_grad_(False).eval()
    for tensor in tensors:
        tensor.requires_grad_(True)
    for batch in rows:
        loss = context.task.losses(model(**context.task.inputs(batch)), batch).mean()
        yield list(torch.autograd.grad(loss, tensors))
    for p, before in zip(model.parameters(), trained, strict=True):
        p.requires_grad_(before)
