"""Classes and functions named in the configuration. Only what is of the expected kind is ever called."""

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from hydra.utils import get_class, get_object

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


def function(key: str, path: str | None, returns: Any) -> Callable[[], Any]:
    """The function at a dotted path; what it says that it returns must be `returns`.

    Raises:
        ConfigError: it can't be imported, or isn't such a function.
    """
    try:
        found = get_object(str(path))
        hints = get_type_hints(found) if inspect.isfunction(found) else {}
    except Exception as error:
        raise ConfigError(f"{key}={path}: can't be imported ({str(error).splitlines()[0]})") from None
    if hints.get("return") != returns:
        raise ConfigError(f"{key}={path}: allowed is a function that is declared to return {returns}")
    return found  # type: ignore[no-any-return]
