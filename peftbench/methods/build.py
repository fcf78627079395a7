"""From a method's configuration to its `Method`."""

from peftbench.config import targets
from peftbench.config.types import MethodConfig
from peftbench.errors import ConfigError
from peftbench.methods.base import Method


def build(config: MethodConfig) -> Method:
    """The method of a run.

    Raises:
        ConfigError: `_target_` is no `Method`, its arguments are wrong, or it trains without a learning rate.
    """
    method: Method = targets.subclass("method._target_", config.target, Method)(config)
    if method.trains and config.lr is None:
        raise ConfigError(f"method.lr: method={config.name} trains and needs a learning rate above 0")
    return method
