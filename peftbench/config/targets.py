"""Classes and functions named in the configuration. Only what is of the expected kind is ever called, and only under
a module's own name of it: no walk along attributes, by which every module leads to every other."""

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_type_hints

from peftbench.errors import ConfigError, first_line


def subclass(key: str, path: str | None, base: type) -> Any:
    """The class at a dotted path.

    Raises:
        ConfigError: it can't be imported, or isn't a `base`.
    """
    try:
        named = _named(str(path))
    except Exception as error:
        raise ConfigError(f"{key}={path}: can't be imported ({first_line(error)})") from None
    if not (isinstance(named, type) and issubclass(named, base)):
        raise ConfigError(f"{key}={path}: allowed is a subclass of {base.__module__}.{base.__qualname__}")
    return named


def function(key: str, path: str | None, returns: Any) -> Callable[[], Any]:
    """The function at a dotted path; what it says that it returns must be `returns`.

    Raises:
        ConfigError: it can't be imported, or isn't such a function.
    """
    try:
        named = _named(str(path))
        hints = get_type_hints(named) if inspect.isfunction(named) else {}
    except Exception as error:
        raise ConfigError(f"{key}={path}: can't be imported ({first_line(error)})") from None
    if hints.get("return") != returns:
        raise ConfigError(f"{key}={path}: allowed is a function that is declared to return {returns}")
    function: Callable[[], Any] = named
    return function


def plain_function(key: str, path: str) -> Callable[..., Any]:
    """The function at a dotted path, whatever it returns.

    Raises:
        ConfigError: it can't be imported, or isn't a function.
    """
    try:
        named = _named(path)
    except Exception as error:
        raise ConfigError(f"{key}={path}: can't be imported ({first_line(error)})") from None
    if not inspect.isfunction(named):
        raise ConfigError(f"{key}={path}: allowed is a function of a module")
    return named


def make_importable(folders: Iterable[Path]) -> None:
    """Let dotted paths reach what lies in the working directory, or beside the user's own folders of configurations.
    Behind all else: nothing that is installed is replaced."""
    for place in (Path.cwd(), *(folder.resolve().parent for folder in folders)):
        if str(place) not in sys.path:
            sys.path.append(str(place))


def _named(path: str) -> Any:
    """The object that a module (`a.b` of `a.b.c`) calls by the last name."""
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise ImportError("not of the form package.module.name")
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise ImportError(f"{module} has no {name}") from None


def check_arguments(key: str, arguments: dict[str, Any]) -> None:
    """Raises ConfigError where an argument of something that is built names a file that it could write to: peft's
    configurations and loggers take such, and only results_dir is written to."""
    for name, value in arguments.items():
        where = f"{key}.{name}"
        if isinstance(value, dict):
            check_arguments(where, value)
        elif isinstance(value, str) and name.endswith(_FILES):
            raise ConfigError(f"{where}={value}: allowed is null; a run writes nothing beside results_dir")
        elif isinstance(value, str) and name in _FOLDERS and (value.startswith(("/", "~")) or ".." in value.split("/")):
            raise ConfigError(f"{where}={value}: allowed is a name within the run's folder")


#: How arguments are called that name files (CorDA's `cache_file`), and a logger's that name folders.
_FILES = ("_file", "_path", "_dir", "_folder")
_FOLDERS = ("name", "version", "sub_dir", "prefix", "dir", "project", "experiment_name", "run_id", "id", "run_name")
