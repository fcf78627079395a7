"""From a method's configuration to its `Method`."""

from hydra.utils import get_class

from peftbench.errors import ConfigError
from peftbench.methods.base import Method
from peftbench.schema import MethodConfig


def build(config: MethodConfig) -> Method:
    """The method of a run.

    Raises:
        ConfigError: `_target_` is no `Method`, its arguments are wrong, or it trains without a learning rate.
    """
    try:
        found = get_class(config.target)
    except Exception as error:
        raise ConfigError(f"method._target_={config.target}: can't be imported ({error})") from None
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(f"method._target_={config.target}: allowed is a subclass of peftbench.methods.base.Method")
    method = found(config)
    if method.trains and config.lr is None:
        raise ConfigError(f"method.lr: method={config.name} trains and needs a learning rate above 0")
    return method
