"""Keyword arguments of the Python functions as words of a command line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from peftbench.config import paths
from peftbench.config.arguments import FOLDERS
from peftbench.config.values import as_word
from peftbench.errors import ConfigError

#: A path, as text or not.
PathLike: TypeAlias = str | os.PathLike[str]


def words(keys: Mapping[str, Any], config_dir: PathLike | Sequence[PathLike], *, several: bool) -> list[str]:
    """Keyword arguments as a command line's words.

    Args:
        config_dir: folders of the user's own configurations.
        several: whether a list holds a key's values, one after the other, or is one value.
    """
    folders = [config_dir] if isinstance(config_dir, str | os.PathLike) else config_dir
    options = [word for folder in folders for word in (FOLDERS[0], str(folder))]
    dotted = dict(_dotted(keys, paths.groups()))
    return [*options, *(f"{key}={_values(value) if several else as_word(value)}" for key, value in dotted.items())]


def _dotted(keys: Mapping[str, Any], groups: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Keys with their values, a group's dict taken apart. Others' dicts (`exclude`) are values."""
    for key, value in keys.items():
        if isinstance(value, Mapping) and key.partition(".")[0].lstrip("+~") in groups:
            yield from _dotted({f"{key}.{name}": part for name, part in value.items()}, groups)
        else:
            yield key, value


def _values(value: Any) -> str:
    """A key's values, one after the other."""
    if isinstance(value, list | tuple | range):
        if not value:
            raise ConfigError("sweep: a key has no values: allowed is a list of at least one")
        return ",".join(map(as_word, value))
    return as_word(value)
