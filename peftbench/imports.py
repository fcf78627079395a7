"""Classes named in the configuration. Only a subclass of what is expected there is ever called."""

from typing import Any

from hydra.utils import get_class

from peftbench.errors import ConfigError


def subclass(key: str, path: str | None, base: type) -> Any:
    """The class at a dotted path.

    Raises:
        ConfigError: it can't be imported, or isn't a `base`.
    """
    try:
        found = get_class(str(path))
    except Exception as error:
        raise ConfigError(f"{key}={path}: can't be imported ({str(error).splitlines()[0]})") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"{key}={path}: allowed is a subclass of {base.__module__}.{base.__qualname__}")
    return found
