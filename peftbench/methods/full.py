"""Full fine-tuning."""

from typing import ClassVar

from torch import nn

from peftbench.config import rules
from peftbench.config.rules import Rule
from peftbench.config.types import MethodConfig
from peftbench.methods.base import Context, Method


class Full(Method):
    """Every weight is trained; the saved "adapter" is the whole model."""

    #: What `method.args` must hold, and which values are allowed.
    arguments: ClassVar[dict[str, Rule]] = {}

    def __init__(self, config: MethodConfig) -> None:
        """Raises ConfigError for arguments that are missing, unknown or out of range."""
        super().__init__(config)
        rules.check_arguments(config.args, self.arguments)

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        return model.requires_grad_(True)
