"""What a file may say of a launcher: how many, how large, how long. What runs as a command is the command line's."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf

from peftbench.errors import ConfigError

#: Arguments that a file may set, of any launcher: sizes, limits and names of a queue. Not those that a shell reads
#: (submitit's `setup`, `python`, `additional_parameters`), that name a server or a folder, or that start other code.
FREE = (
    *("n_jobs", "prefer", "verbose", "timeout", "batch_size"),
    *("timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes", "name", "stderr_to_stdout"),
    *("partition", "qos", "comment", "constraint", "exclude", "gres", "account", "cpus_per_gpu", "gpus_per_task"),
    *("mem_per_gpu", "mem_per_cpu", "signal_delay_s", "max_num_timeout", "array_parallelism", "wait_for_completion"),
    *("ray.init.num_cpus", "ray.init.num_gpus", "ray.remote.num_cpus", "ray.remote.num_gpus", "ray.remote.memory"),
)
#: Where submitit keeps its own files: within the results folder.
_FOLDER = "submitit_folder"
#: One line, as sbatch takes it: anything else could end the comment it stands in.
_PLAIN = re.compile(r"[\w .,:@%=+/\[\]()&|*-]{0,200}")
#: How Hydra is told to build something.
_BUILDS = re.compile(r"_(?:target|args|partial|recursive|convert|mode)_")


def check(
    launcher: Any,
    *,
    value: Callable[[str], Any],
    typed: Mapping[str, Any],
    inside: Callable[[str], bool],
    check_text: Callable[[str, str], None],
) -> None:
    """Raises ConfigError for what may not stand in `hydra.launcher`.

    Args:
        launcher: as written, unresolved.
        value: what a key below `hydra` means.
        typed: keys that the command line itself gives.
        inside: whether a folder lies in the results folder.
        check_text: raises for a text that refers to what it may not.
    """
    target = launcher.get("_target_") if isinstance(launcher, dict) else launcher
    allowed = sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in Plugins.instance().discover(Launcher))
    if target not in allowed:
        raise ConfigError(f"hydra.launcher._target_={target}: allowed are {', '.join(allowed)}")
    stored = defaults(target)
    for path, written in flatten({name: part for name, part in launcher.items() if name != "_target_"}):
        key = f"hydra.launcher.{path}"
        if any(_BUILDS.fullmatch(name) for name in path.split(".")) or _builds(written):
            raise ConfigError(f"{key}={written}: allowed is no _target_ in a launcher's arguments")
        if key in typed or (path in stored and stored[path] == written):
            continue
        if path not in (*FREE, _FOLDER):
            raise ConfigError(f"{key}: only the command line may set it; a file may set {', '.join((*FREE, _FOLDER))}")
        if isinstance(written, str):
            check_text(key, written)
        _check_value(key, value(f"launcher.{path}"), inside if path == _FOLDER else None)


def _check_value(key: str, value: Any, inside: Callable[[str], bool] | None) -> None:
    if inside is not None and not inside(str(value)):
        raise ConfigError(f"{key}={value}: allowed is a folder within results_dir")
    if isinstance(value, dict | list) or (value is not None and _PLAIN.fullmatch(str(value)) is None):
        raise ConfigError(f"{key}={value!r}: allowed is a number or one plain line of text")


def defaults(target: str) -> dict[str, Any]:
    """The arguments that a launcher's plugin itself stores, by dotted key; empty where it stores none."""
    stored = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for choice in stored.values():
        node: Any = OmegaConf.to_container(choice.node, resolve=False)
        if node.get("_target_") == target:
            return dict(flatten(node))
    return {}


def flatten(value: dict[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The single values of a nested dictionary, by dotted key; a list counts as one."""
    leaves: list[tuple[str, Any]] = []
    for name, part in value.items():
        leaves += flatten(part, f"{prefix}{name}.") if isinstance(part, dict) else [(f"{prefix}{name}", part)]
    return leaves


def _builds(value: Any) -> bool:
    """True if a list holds what Hydra would build."""
    if isinstance(value, dict):
        return any(_BUILDS.fullmatch(str(name)) or _builds(part) for name, part in value.items())
    return isinstance(value, list) and any(_builds(part) for part in value)
