"""Entries of the weights chosen by the gradients of the first training examples, then trained as a sparse change.

Both choose, of the weights and biases of the transformer layers' linear modules, those with the largest score: a share
`args.density`; `args.batches` and `args.batch_size` say how many examples are looked at.
"""

from collections.abc import Iterable
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from peftbench.methods.base import Context
from peftbench.methods.first_batches import first_rows, gradients
from peftbench.methods.hub import Hub
from peftbench.methods.tuners.adapter import trained_whole
from peftbench.methods.tuners.shift import plain_linear
from peftbench.models import layers


class Chosen(Hub):
    """The base of methods that choose entries; a subclass's `total` turns gradients into scores."""

    def inject(self, model: nn.Module, config: Any, context: Context) -> PeftModel:
        modules = linears(model, config)
        if not modules:
            raise ValueError(f"the layers of {type(model).__name__} hold no linear module")
        places = self.choose(model, modules, context)
        config.counts = {name: len(chosen) for name, chosen in places.items() if len(chosen)}
        config.target_modules = list(config.counts)
        adapted = super().inject(model, config, context)
        for name in config.counts:
            layer: Any = adapted.get_base_model().get_submodule(name)
            layer.choose(adapted.active_adapter, places[name])
        return adapted

    def choose(self, model: nn.Module, modules: dict[str, nn.Module], context: Context) -> dict[str, torch.Tensor]:
        """The places of the entries with the largest scores, by module; evenly spread where there are no data."""
        sizes = {name: sum(t.numel() for t in tensors(module)) for name, module in modules.items()}
        density = self.config.args["density"]
        rows = first_rows(context, size=self.config.args["batch_size"], batches=self.config.args["batches"])
        if not rows:
            return {name: torch.arange(max(1, round(density * size))) for name, size in sizes.items()}
        scores = self._scores(model, list(modules.values()), context, rows)
        best = torch.zeros(len(scores), dtype=torch.bool)
        best[scores.topk(max(1, round(density * len(scores)))).indices] = True
        parts = best.split(list(sizes.values()))
        return {name: part.nonzero()[:, 0] for name, part in zip(sizes, parts, strict=True)}

    def _scores(self, model: nn.Module, modules: list[nn.Module], context: Context, rows: list[Any]) -> torch.Tensor:
        """Scores of all entries, (n,): module after module, weight before bias."""
        wanted = [t for module in modules for t in tensors(module)]
        return self.total(
            torch.cat([g.flatten() for g in batch_gradients])
            for batch_gradients in gradients(model, context, wanted, rows)
        )

    def total(self, per_batch: Iterable[torch.Tensor]) -> torch.Tensor:
        """The scores, (n,), from each batch's gradients, (n,)."""
        raise NotImplementedError


class FishMask(Chosen):
    """Sung et al., "Training Neural Networks with Fixed Sparse Masks", arXiv 2111.09839, section 3: the largest entries
    of the empirical Fisher information, F_i = 1/N sum_n (d log p(y_n | x_n) / d theta_i)^2 (equation 5)."""

    def total(self, per_batch: Iterable[torch.Tensor]) -> torch.Tensor:
        total: Any = sum(gradient.square() for gradient in per_batch)
        return total


class Sam(Chosen):
    """Fu et al., "On the Effectiveness of Parameter-Efficient Fine-Tuning", arXiv 2211.15583, the second-order
    approximation method: to second order the loss falls by (dL / d theta_i)^2 / (2 h_i) for each chosen entry, and with
    one bound for all h_i the best mask holds the largest (dL / d theta_i)^2, L being the loss of all examples."""

    def total(self, per_batch: Iterable[torch.Tensor]) -> torch.Tensor:
        total: Any = sum(per_batch)
        return total.square()


def tensors(module: Any) -> list[nn.Parameter]:
    """Weight and, where there is one, bias."""
    return [t for t in (module.weight, module.bias) if t is not None]


def linears(model: nn.Module, config: Any) -> dict[str, nn.Module]:
    """The linear modules inside the model's layers that `modules_to_save` doesn't hold already."""
    inside = tuple(f"{stack}." for stack in layers.stacks(model))
    return {
        name: module
        for name, module in model.named_modules()
        if plain_linear(module) and name.startswith(inside) and not trained_whole(config, name)
    }
