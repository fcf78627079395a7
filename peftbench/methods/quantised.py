"""LoRA on a quantised base. Source: Dettmers et al., QLoRA, arXiv 2305.14314, section 3; int8: arXiv 2208.07339."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from peftbench.methods.hub import Hub
from peftbench.models import parameters


class Quantised(Hub):
    """`method.quantization` describes the base; where CUDA is there the optimiser's state is paged (section 3)."""

    def optimizer(
        self, model: nn.Module, default: Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer:
        usual = default(parameters.groups(model))
        if not torch.cuda.is_available() or not isinstance(usual, torch.optim.AdamW):
            return usual  # On a CPU there is nothing to page out of.
        import bitsandbytes as bnb

        settings = {k: usual.defaults[k] for k in ("lr", "betas", "eps", "weight_decay")}
        optim: Any = bnb.optim  # Its names aren't exported to type checkers.
        return optim.PagedAdamW32bit(parameters.groups(model), **settings)
