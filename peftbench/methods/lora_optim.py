"""LoRA with an optimiser of its own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from peft.optimizers import create_lorafa_optimizer
from torch import nn

from peftbench.methods.hub import Hub
from peftbench.models import parameters

Default = Callable[[Iterable[dict[str, Any]]], torch.optim.Optimizer]


class LoraPlus(Hub):
    """LoRA+: B learns faster than A. Source: Hayou et al., arXiv 2402.12354, section 4: lr_B = ratio * lr_A.

    `args.ratio`: the factor. The head learns at the rate of A.
    """

    def optimizer(self, model: nn.Module, default: Default) -> torch.optim.Optimizer:
        assert self.config.lr is not None
        fast = {id(p) for name, p in model.named_parameters() if "lora_B" in name}
        groups = []
        for group in parameters.groups(model):
            for rate, quick in ((self.config.lr, False), (self.config.lr * self.config.args["ratio"], True)):
                chosen = [p for p in group["params"] if (id(p) in fast) is quick]
                groups += [{**group, "params": chosen, "lr": rate}] if chosen else []
        return default(groups)


class LoraFA(Hub):
    """LoRA-FA: A stays as it was drawn; B's gradient is projected so that the update is closest to the full one's.

    Source: Zhang et al., arXiv 2308.03303; the projection: equation 8 of its second version, as peft has it. A is
    frozen when the optimiser is built.
    """

    def optimizer(self, model: nn.Module, default: Default) -> torch.optim.Optimizer:
        adapted: Any = model
        usual, config = default(parameters.groups(model)).defaults, adapted.active_peft_config
        return create_lorafa_optimizer(
            model=adapted,
            r=config.r,
            lora_alpha=config.lora_alpha,
            lr=usual["lr"],
            weight_decay=usual["weight_decay"],
        )
