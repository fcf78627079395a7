"""All uses of the private API of Hydra (`hydra._internal`) and OmegaConf, written for Hydra 1.3.

Another minor version may move or change any of them: tests/config/test_hydra_compat.py says which, before a run does.
"""

import copy
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.callbacks import Callbacks
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig
from yaml import YAMLError

from peftbench.errors import ConfigError

#: The version of Hydra that this file was written for, and whose defaults it is asked for (`version_base`).
VERSION = "1.3"
#: Hydra's own sweeper, by the dotted path that a composed configuration names it by.
SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def main_hydra(folder: Path) -> Hydra:
    """Hydra as its command line makes it, with plugins and launchers, reading configurations from a folder.

    Private because the public entry, `hydra.main`, always goes through a sweeper. It becomes the global instance.
    """
    return Hydra.create_main_hydra2("peftbench", create_config_search_path(str(folder)))


def with_callback(config: DictConfig, callback: Callback) -> Callbacks:
    """The callbacks that a configuration names, and one more: only a configuration's can be given publicly."""
    callbacks = Callbacks(config)
    callbacks.callbacks.append(callback)
    return callbacks


def values(override: Override) -> list[str]:
    """An override once for each of its swept values, as Hydra's sweeper splits it (`seed=0`, `seed=1`).

    Raises:
        HydraException: it can't be split (`interval(0, 1)`).
    """
    return [parts[0] for parts in BasicSweeper.split_arguments([override], max_batch_size=None)[0]]


def unresolved(node: DictConfig, key: str) -> Any:
    """A node's child without following its interpolation, which may refer to what isn't there; OmegaConf's public
    access follows it."""
    return node._get_node(key)


def read_files_once(loader: Any, problem: Callable[[Exception], str]) -> None:
    """Make a config loader read each file once a command, and by a later command only if it has changed since.

    Hydra reads every file again for every cell, which is most of the time that composing takes; it has no switch.

    Args:
        problem: why a file can't be read, in one line: loading raises it as a ConfigError.
    """
    loader.repository = _ReadOnce(loader.repository, problem)


class _ReadOnce(CachingConfigRepository):
    _by_path: ClassVar[dict[tuple[str, str], tuple[Any, ConfigResult | None]]] = {}

    def __init__(self, repository: Any, problem: Callable[[Exception], str]) -> None:
        super().__init__(repository)
        self._problem = problem

    def __deepcopy__(self, memo: dict[int, Any]) -> "_ReadOnce":
        # Hydra copies its repository for every composition; the cache is what they must share.
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.cache:
            self.cache[config_path] = self._read(config_path)
        return self.cache[config_path]

    def _read(self, config_path: str) -> ConfigResult | None:
        delegate: Any = self.delegate
        source = delegate._find_object_source(config_path, ObjectType.CONFIG)
        if source is None:
            return None
        stamp = None  # What comes with a package doesn't change.
        if source.scheme() == "file":
            written = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
            stamp = (written.st_ino, written.st_mtime_ns, written.st_size)
        at = (source.path, config_path)
        if at not in self._by_path or self._by_path[at][0] != stamp:
            try:
                self._by_path[at] = stamp, delegate.load_config(config_path)
            except (OSError, ValueError, YAMLError) as error:
                raise ConfigError(f"{os.path.join(*at)}: {self._problem(error)}") from None
        # A copy, for overrides are written into what was read.
        return copy.deepcopy(self._by_path[at][1])


#: For the test: what is used of each private class.
USED: Sequence[tuple[Any, tuple[str, ...]]] = (
    (Hydra, ("create_main_hydra2", "compose_config")),
    (BasicSweeper, ("split_arguments",)),
    (CachingConfigRepository, ("load_config",)),
    (DictConfig, ("_get_node",)),
)
