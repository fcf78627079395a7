"""Full fine-tuning."""

from torch import nn

from peftbench.methods.base import Context, Method


class Full(Method):
    """Every weight is trained; the saved "adapter" is the whole model."""

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return model.requires_grad_(True)
