"""GaLore: every weight is trained, with gradients that the optimiser sees projected to a low rank.

Source: Zhao et al., arXiv 2403.03507, section 4, algorithm 2. For a weight W (m, n) with gradient G, m <= n, rank r:
P is the first r left singular vectors of G, (m, r), anew every T steps; R = P'G, (r, n), is what the optimiser is
given; its step N on R becomes W <- W - lr * alpha * P N. Where m > n, P is of right singular vectors, (n, r), and
R = G P, (m, r).
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from peftbench.config.rules import between, whole
from peftbench.methods.full import Full
from peftbench.models import layers, parameters
from peftbench.models.parameters import MakeOptimizer


class GaLore(Full):
    """`args`: `rank` r, `scale` alpha, `interval` T. Projected: linear layers inside the model's layers that are larger
    than r both ways; the rest is trained as in full fine-tuning.

    Works with any optimiser of the recipe: hooks around its step put R, and zeros for W, in the places of G and W, so
    that its state has R's shape, and take what it made of the zeros as the step. Weight decay is decoupled.
    """

    arguments: ClassVar = {"rank": whole(1), "scale": between(0, above=True), "interval": whole(1)}

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        optimizer = default(parameters.groups(model))
        args = self.config.args
        candidates = {id(p): _Projected(p, optimizer, args) for p in _weights(model)}
        projected = {
            key: projection for key, projection in candidates.items() if min(projection.weight.shape) > args["rank"]
        }

        def before(*_: Any) -> None:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if id(p) in projected and p.grad is not None:
                        projected[id(p)].reduce(decay=group["lr"] * group["weight_decay"])

        def after(*_: Any) -> None:
            for projection in projected.values():
                projection.restore()

        optimizer.register_step_pre_hook(before)
        optimizer.register_step_post_hook(after)
        return optimizer


def _weights(model: nn.Module) -> list[nn.Parameter]:
    modules = (module for stack in layers.stacks(model).values() for module in stack.modules())
    linear = (module for module in modules if isinstance(module, nn.Linear | Conv1D))
    pairs = (pair for module in linear for pair in module.named_parameters(recurse=False))
    return [p for name, p in pairs if name == "weight" and p.requires_grad]


class _Projected:
    """A weight (m, n) and its projection P, (min(m, n), r), made at steps 0, T, 2T ...

    P and the count of steps are kept in the optimiser's state, which is saved and loaded where a run is taken up again.
    """

    def __init__(self, weight: nn.Parameter, optimizer: torch.optim.Optimizer, args: dict[str, Any]) -> None:
        self.weight, self._optimizer = weight, optimizer
        self.rank, self.scale, self.interval = args["rank"], args["scale"], args["interval"]
        self.projection: torch.Tensor
        self._full: tuple[torch.Tensor, torch.Tensor] | None = None

    def reduce(self, *, decay: float) -> None:
        """Put R in the place of the gradient and zeros of its shape in that of the weight, which has decayed."""
        gradient, left = self.weight.grad, self.weight.shape[0] <= self.weight.shape[1]
        assert gradient is not None
        state = self._optimizer.state.get(self.weight, {})
        if state.get("steps", 0) % self.interval == 0:
            u, _, vh = torch.linalg.svd(gradient.float(), full_matrices=False)
            self.projection = (u[:, : self.rank] if left else vh[: self.rank].T).to(gradient.dtype)
        else:
            self.projection = state["projection"]
        self._full = (self.weight.data.mul_(1 - decay), gradient)
        low = self.projection.T @ gradient if left else gradient @ self.projection
        self.weight.grad = None
        self.weight.data = torch.zeros_like(low)
        self.weight.grad = low

    def restore(self) -> None:
        """Put the weight back, moved by the optimiser's step."""
        if self._full is None:
            return
        (full, gradient), moved = self._full, self.weight.data
        left = full.shape[0] <= full.shape[1]
        full += self.scale * (self.projection @ moved if left else moved @ self.projection.T)
        self.weight.grad = None
        self.weight.data, self.weight.grad, self._full = full, gradient, None
        # Behind the step: the optimiser takes a state that isn't empty for one of its own.
        state = self._optimizer.state[self.weight]
        state["projection"], state["steps"] = self.projection, state.get("steps", 0) + 1
