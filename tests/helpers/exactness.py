"""A model's answers, loss and gradients before and after a change that should change none."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.helpers.built import Built


@dataclass(frozen=True)
class Result:
    """Logits (n, labels), the loss that is minimised, and the gradient of every trained parameter by its name."""

    logits: torch.Tensor
    loss: torch.Tensor
    gradients: dict[str, torch.Tensor]

    def off(self, other: "Result") -> dict[str, float]:
        """By name, the largest difference to another result, as a share of the largest gradient, logit or loss."""
        assert self.gradients.keys() == other.gradients.keys()
        largest = max((g.abs().max().item() for g in other.gradients.values()), default=0.0)
        shares = {name: _largest(self.gradients[name] - g) / max(largest, 1e-30) for name, g in other.gradients.items()}
        shares["logits"] = _largest(self.logits - other.logits) / max(_largest(other.logits), 1e-30)
        shares["loss"] = _largest(self.loss - other.loss) / max(_largest(other.loss), 1e-30)
        return shares


def _largest(x: torch.Tensor) -> float:
    return float(x.abs().max())


def result(case: Built, *, precision: str = "32-true") -> Result:
    """What a method's model answers, and what it would learn, on the case's batch; in the model's present mode.

    precision: also "bf16-mixed", the forward pass under autocast.
    """
    model, batch = case.model, case.batch
    model.zero_grad(set_to_none=True)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"):
        outputs: Any = case.tuner(batch)
    task_loss = case.task.losses(outputs, batch).mean()
    loss = case.method.loss(task_loss, outputs, batch)
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad and p.grad is not None}
    return Result(case.task.predictions(outputs, batch).detach().clone(), loss.detach().clone(), gradients)


def without_dropout(model: nn.Module) -> nn.Module:
    """The model in training mode, with every probability of dropout at zero."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):  # ModernBERT's is a number.
            module.attention_dropout = 0.0  # type: ignore[assignment]
    return model.train()
