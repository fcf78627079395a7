"""Full fine-tuning in which lower layers learn more slowly.

Source: Sun et al., arXiv 1905.05583, section 4.1: lr_{k-1} = decay * lr_k, from the last layer down. What stands above
the layers learns at `lr`, as the last layer does; the embeddings are one layer below the first.
"""

from typing import ClassVar

import torch
from torch import nn

from peftbench.config.rules import between
from peftbench.methods.full import Full
from peftbench.models import layers, parameters
from peftbench.models.parameters import MakeOptimizer


class Llrd(Full):
    """`args.decay`: the rate of a layer over that of the layer above it; 1 is full fine-tuning.

    In an encoder-decoder the encoder's layers lie below the decoder's.
    """

    arguments: ClassVar = {"decay": between(0, 1, above=True)}

    def optimizer(self, model: nn.Module, default: MakeOptimizer) -> torch.optim.Optimizer:
        assert self.config.lr is not None
        parts = layers.parts(model)
        *lower, last = [parts.embeddings, *parts.layers]
        levels = [[*parts.top, *last], *reversed(lower)]
        rates = [self.config.lr * self.config.args["decay"] ** depth for depth in range(len(levels))]
        return default(
            [{**g, "lr": rate} for level, rate in zip(levels, rates, strict=True) for g in parameters.split(level)]
        )
