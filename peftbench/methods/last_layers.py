"""The last layers are trained whole, everything below stays as it is.

Source: Lee, Tang and Lin, "What Would Elsa Do? Freezing Layers During Transformer Fine-Tuning", arXiv 1911.03090,
section 2: theta_l is trained for l > L - k, and the task head.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.head_only import HeadOnlyConfig
from peftbench.methods.hub import Hub
from peftbench.models import layers


@dataclass
class LastLayersConfig(HeadOnlyConfig):
    """`modules_to_save`: the layers and the head. Loads as a head-only adapter does."""

    trains_head_alone: ClassVar[bool] = False


class LastLayers(Hub):
    """`args.count`: k, of each stack; an encoder-decoder has two."""

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        count = self.config.args["count"]
        if type(count) is not int or count < 1:
            raise ConfigError(f"method.args.count={count}: must be an integer above 0")
        stacks = layers.stacks(model).items()
        last = [f"{name}.{i}" for name, stack in stacks for i in range(max(0, len(stack) - count), len(stack))]
        return {"modules_to_save": last}
