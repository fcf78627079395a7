"""What a configuration from elsewhere may not do by Hydra's own keys: call code, or write outside the results folder.

A file of an experiment or a sweep can set `hydra.*` as a command line can, and Hydra then builds callbacks, launchers
and logging handlers by dotted path.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from omegaconf import DictConfig, OmegaConf

from peftbench.errors import ConfigError

#: Where the classes come from that Hydra may build: its own, its plugins' and ours; for logging also Python's.
_BUILT = ("hydra.", "hydra_plugins.", "peftbench.")
_LOGGED = ("logging.", "colorlog.", "rich.")
#: Variables that make a process that is started load other code.
_LOADS_CODE = re.compile(r"LD_|DYLD_|PYTHON|PATH$|BASH_ENV$|GIT_")
#: A file's name, or several with folders, none of which leads upwards.
_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*")


#: A folder's name may have 255 bytes; temporary files beside it add some. And what a message shows of a longer one.
_NAME_BYTES, _SHOWN = 200, 40


def check(hydra: DictConfig, results_dir: str) -> None:
    """Raises ConfigError for the first thing that isn't allowed in Hydra's part of a configuration."""
    for part in ("callbacks", "launcher", "sweeper"):
        _check_targets(f"hydra.{part}", OmegaConf.to_container(hydra[part]), _BUILT)
    for part in ("job_logging", "hydra_logging"):
        _check_targets(f"hydra.{part}", OmegaConf.to_container(hydra[part]), (*_LOGGED, *_BUILT))
    for name in hydra.job.env_set:
        if _LOADS_CODE.search(str(name)):
            raise ConfigError(f"hydra.job.env_set.{name}: allowed is no variable by which processes load code")
    for key, folder in (("run.dir", hydra.run.dir), ("sweep.dir", hydra.sweep.dir)):
        if not _within(folder, results_dir):
            raise ConfigError(f"hydra.{key}={folder}: allowed is a folder within results_dir={results_dir}")
    subdir = str(hydra.sweep._get_node("subdir")._value())
    if PurePath(subdir).is_absolute() or ".." in PurePath(subdir).parts:
        raise ConfigError(f"hydra.sweep.subdir={subdir}: allowed is a name within hydra.sweep.dir")


def check_name(group: str, name: object) -> None:
    """Raises ConfigError for a group's choice that is no plain name: files are named after it."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigError(f"{group}={name}: allowed is the name of a file in {group}/, without '..'")


def check_names(names: Mapping[str, str]) -> None:
    """Raises ConfigError for a name, by the key it comes from, that is too long for the folder called after it."""
    for key, name in names.items():
        longest = max(len(os.fsencode(part)) for part in name.split("/"))
        if longest > _NAME_BYTES:
            allowed = f"allowed are {_NAME_BYTES}, for folders are called so"
            raise ConfigError(f"{key}={name[:_SHOWN]}...: a name of {longest} bytes; {allowed}")


def _within(folder: str, root: str) -> bool:
    return Path(folder).absolute().resolve().is_relative_to(Path(root).absolute().resolve())


def _check_targets(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    for where, path in _targets(key, value):
        if not str(path).startswith(allowed):
            raise ConfigError(f"{where}={path}: allowed is what begins with {', '.join(allowed)}")


def _targets(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every dotted path that something is built by: `_target_`, and logging's `class` and `()`."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name in ("_target_", "class", "()"):
                yield f"{key}.{name}", part
            else:
                yield from _targets(f"{key}.{name}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _targets(key, part)
    elif isinstance(value, str) and value.startswith("ext://") and not value.startswith("ext://sys.std"):
        yield key, value
