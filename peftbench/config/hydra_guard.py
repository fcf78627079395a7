"""What a configuration from elsewhere may not do by Hydra's own keys: call code, or write outside the results folder.

A file of an experiment or a sweep can set `hydra.*` as a command line can, and Hydra then builds callbacks, launchers
and logging handlers by dotted path, sets variables of the environment and makes folders. Every key of that node is
checked here by what it may hold; a key that nobody wrote a check for is refused.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftbench.config import hydra_guard_launcher, hydra_guard_logging
from peftbench.config.hydra_compat import SWEEPER
from peftbench.errors import ConfigError, first_line

#: The classes that callbacks may be: Hydra calls them with the arguments beside the name.
_CALLBACKS = ("hydra.experimental.callbacks.LogJobReturnCallback",)
#: Variables of the environment that a configuration may set: none of them names a file, a program or a server.
VARIABLES = (
    *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "GOMP_CPU_AFFINITY"),
    *("KMP_AFFINITY", "KMP_BLOCKTIME", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
    *("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "TORCH_NCCL_BLOCKING_WAIT", "NVIDIA_TF32_OVERRIDE"),
    *("NCCL_DEBUG", "NCCL_P2P_DISABLE", "NCCL_IB_DISABLE", "NCCL_SHM_DISABLE", "NCCL_SOCKET_IFNAME"),
    *("GLOO_SOCKET_IFNAME", "TOKENIZERS_PARALLELISM", "TZ", "LANG", "LC_ALL"),
)
_VALUE = re.compile(r"[\w.,:+ -]*")
#: A file's name, or several with folders, none of which leads upwards.
_NAME = re.compile(r"\w[\w.+-]*(?:/\w[\w.+-]*)*")
#: What a file's text in Hydra's node may refer to: what means the same when it is checked and when it is used, or is
#: named by Hydra itself.
_REFERENCE = re.compile(
    r"\$\{(?:results_dir|now:[\w%:-]*|peftbench\.token:|hydra[.:](?:run|sweep)\.dir|hydra[.:]job\.(?:name|num|id)"
    r"|hydra[.:]runtime\.(?:output_dir|version)|hydra\.(?:hydra_)?help\.\w+)\}"
)
#: Texts that are the command line's, Hydra's own or ours, or that their own check compares.
_LOOKED_AT = tuple(
    f"hydra.{key}" for key in ("launcher.", "overrides.", "runtime.", "sweeper.params.", "job.override_dirname")
)
_JOB = re.compile(r"\$\{hydra[.:]job\.(?:name|num|id)\}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


#: A folder's name may have 255 bytes; temporary files beside it add some. And what a message shows of a longer one.
_NAME_BYTES, _SHOWN = 200, 40


@dataclass(frozen=True)
class _Node:
    """Hydra's part of a composed configuration.

    Attributes:
        raw: as written, `${...}` unresolved.
        results_dir: where everything must lie.
        arguments: the command line's overrides, as typed.
        typed: by key (`hydra.launcher.setup`) what the command line says of `hydra.*`: the user's own will.
    """

    node: DictConfig
    raw: dict[str, Any]
    results_dir: str
    arguments: Sequence[str]
    typed: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """The value that a key resolves to now (`run.dir`). Raises ConfigError where that can't be said."""
        try:
            return OmegaConf.select(self.node, key, throw_on_missing=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"hydra.{key}: {first_line(error)}") from None


def check(hydra: DictConfig, results_dir: str, overrides: Sequence[Override] = ()) -> None:
    """Raises ConfigError for the first thing that isn't allowed in Hydra's part of a configuration.

    Args:
        overrides: those of the command line itself. A launcher's arguments that are given there are the user's.
    """
    raw: Any = OmegaConf.to_container(hydra, resolve=False)
    typed = {key: value for o in overrides if not o.is_sweep_override() for key, value in _leaves(o)}
    node = _Node(hydra, raw, results_dir, [str(o.input_line) for o in overrides], typed)
    for key in raw:
        if key not in CHECKS:
            raise ConfigError(f"hydra.{key}: no such key; allowed are {', '.join(sorted(CHECKS))}")
    for key, text in _texts("hydra", raw):
        if key not in typed and not key.startswith(_LOOKED_AT):
            check_text(key, text)
    for look in dict.fromkeys(CHECKS.values()):
        look(node)


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


def check_text(key: str, text: str) -> None:
    """Raises ConfigError for a file's text in Hydra's node that has another meaning later, or draws on a terminal."""
    if "${" in _REFERENCE.sub("", text):
        raise ConfigError(f"{key}={text}: a file may refer to results_dir, now, hydra.job.name, .num and .id alone")
    if _CONTROL.search(text):
        raise ConfigError(f"{key}={text!r}: allowed is text without control characters")


def within(folder: str, root: str) -> bool:
    """True if a path lies in a folder, links followed."""
    return Path(folder).absolute().resolve().is_relative_to(Path(root).absolute().resolve())


def _leaves(override: Override) -> Iterator[tuple[str, Any]]:
    """The values that an override sets, by full key. Of a dictionary only what is in it: Hydra merges it into a
    file's."""
    if not override.is_delete():
        yield from hydra_guard_launcher.flatten({str(override.key_or_group): override.value()})


def _texts(key: str, value: Any) -> Iterator[tuple[str, str]]:
    for name, part in hydra_guard_launcher.flatten({key: value}):
        for text in part if isinstance(part, list) else [part]:
            if isinstance(text, str):
                yield name, text
            elif isinstance(text, dict):
                yield from _texts(name, text)


def _folders(node: _Node) -> None:
    for key in ("run.dir", "sweep.dir"):
        if not within(str(folder := node.value(key)), node.results_dir):
            raise ConfigError(f"hydra.{key}={folder}: allowed is a folder within results_dir={node.results_dir}")
    _subdir(node)


def _subdir(node: _Node) -> None:
    """Raises ConfigError for a sub-folder that leads out. It is only known when a job starts: judged with what Hydra
    will put in."""
    subdir = str(node.raw["sweep"]["subdir"])
    named = subdir.replace("${hydra.job.override_dirname}", str(node.raw["job"]["override_dirname"]))
    plain = PurePath(_JOB.sub("0", named))
    if plain.is_absolute() or ".." in plain.parts:
        raise ConfigError(f"hydra.sweep.subdir={subdir}: allowed is a name within hydra.sweep.dir")


def _output_subdir(node: _Node) -> None:
    name = node.raw["output_subdir"]
    if name is not None and re.fullmatch(r"\.?\w[\w.-]*", str(name)) is None:
        raise ConfigError(f"hydra.output_subdir={name}: allowed is null or a plain name, such as .hydra")


def _callbacks(node: _Node) -> None:
    callbacks = node.raw["callbacks"] or {}
    for name, callback in callbacks.items() if isinstance(callbacks, dict) else [("", callbacks)]:
        target = callback.get("_target_") if isinstance(callback, dict) else callback
        if target not in _CALLBACKS:
            raise ConfigError(f"hydra.callbacks.{name}._target_={target}: allowed is {', '.join(_CALLBACKS)}")
        if len(callback) > 1:
            raise ConfigError(f"hydra.callbacks.{name}: allowed is _target_ alone, without arguments")


def _sweeper(node: _Node) -> None:
    sweeper = node.raw["sweeper"]
    if not isinstance(sweeper, dict) or sweeper.get("_target_") != SWEEPER:
        target = sweeper.get("_target_") if isinstance(sweeper, dict) else sweeper
        raise ConfigError(f"hydra.sweeper._target_={target}: allowed is {SWEEPER}")
    allowed = ("_target_", "max_batch_size", "params")
    for key in sweeper:
        if key not in allowed:
            raise ConfigError(f"hydra.sweeper.{key}: no such key; allowed are {', '.join(allowed)}")
    for key in sweeper["params"] or {}:
        # They are put with the command line's overrides, which may say more than a file.
        if re.match(r"[+~]*hydra\b", str(key)):
            raise ConfigError(f"hydra.sweeper.params.{key}: allowed is any key but Hydra's own")


def _job(node: _Node) -> None:
    job = node.raw["job"]
    for name, value in (job["env_set"] or {}).items():
        if name not in VARIABLES:
            raise ConfigError(f"hydra.job.env_set.{name}: allowed are {', '.join(VARIABLES)}")
        if _VALUE.fullmatch(str(value)) is None:
            raise ConfigError(f"hydra.job.env_set.{name}={value!r}: allowed are letters, digits and . , : + -")
    for name in job["env_copy"] or []:
        if name not in VARIABLES:
            raise ConfigError(f"hydra.job.env_copy={name}: allowed are {', '.join(VARIABLES)}")
    if re.fullmatch(r"\w[\w.+-]*", str(job["name"])) is None:
        raise ConfigError(f"hydra.job.name={job['name']}: allowed is a plain name: files are named after it")
    for name in ("id", "num"):
        if job[name] != "???":
            raise ConfigError(f"hydra.job.{name}={job[name]}: Hydra itself sets it")
    for name in ("kv_sep", "item_sep"):
        if "/" in str(separator := job["config"]["override_dirname"][name]):
            raise ConfigError(f"hydra.job.config.override_dirname.{name}={separator}: allowed is text without /")


def _overrides(node: _Node) -> None:
    # Hydra composes every job of a sweep with them: a file must not add any.
    for kind in ("hydra", "task"):
        for override in node.raw["overrides"][kind]:
            if override not in node.arguments:
                raise ConfigError(f"hydra.overrides.{kind}={override}: allowed is what the command line says")


def _runtime(node: _Node) -> None:
    if node.raw["runtime"]["output_dir"] != "???":
        raise ConfigError("hydra.runtime.output_dir: Hydra itself sets it; allowed is hydra.run.dir")


def _searchpath(node: _Node) -> None:
    if node.raw["searchpath"] and "hydra.searchpath" not in node.typed:
        raise ConfigError("hydra.searchpath: only the command line may set it; --config-dir DIR does")


def _logging(node: _Node) -> None:
    def inside(file: str) -> bool:
        return within(_JOB.sub("0", file).replace("${results_dir}", node.results_dir), node.results_dir)

    for part in ("job_logging", "hydra_logging"):
        hydra_guard_logging.check(f"hydra.{part}", node.raw[part], inside)


def _launcher(node: _Node) -> None:
    hydra_guard_launcher.check(
        node.raw["launcher"],
        value=node.value,
        typed=node.typed,
        inside=lambda folder: within(folder, node.results_dir),
        check_text=check_text,
    )


def _anything(node: _Node) -> None:
    """Shown, or a name of ours: `check` has looked at its texts."""


#: By key of Hydra's node what looks at it. (`run` and `sweep` go together.)
CHECKS: dict[str, Callable[[_Node], None]] = {
    "run": _folders,
    "sweep": _folders,
    "output_subdir": _output_subdir,
    "callbacks": _callbacks,
    "sweeper": _sweeper,
    "launcher": _launcher,
    "job": _job,
    "job_logging": _logging,
    "hydra_logging": _logging,
    "overrides": _overrides,
    "runtime": _runtime,
    "searchpath": _searchpath,
    "mode": _anything,
    "verbose": _anything,
    "help": _anything,
    "hydra_help": _anything,
    "env": _anything,
}
