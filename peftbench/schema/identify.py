"""Of a configuration: what decides a run's result, what a record keeps of it, and how its batch is cut."""

import dataclasses
from collections.abc import Callable
from typing import Any

from peftbench.schema.types import RunConfig


def identity(config: Any) -> dict[str, Any]:
    """The fields of a config that decide a run's result, nested; null ones left out."""
    kept = (f for f in dataclasses.fields(config) if f.metadata.get("identity", True))
    return _without_nulls({f.name: _plain(getattr(config, f.name), identity) for f in kept})


def words(kind: type) -> set[str]:
    """The fields of a config's class that decide nothing: they describe, or say where things are."""
    return {f.name for f in dataclasses.fields(kind) if not f.metadata.get("identity", True)}


def description(config: RunConfig) -> dict[str, Any]:
    """What a record keeps of its configuration: all but the sinks and places, nulls included."""

    def whole(part: Any) -> dict[str, Any]:
        kept = (f for f in dataclasses.fields(part) if not f.metadata.get("sink", False))
        return {f.name: _plain(getattr(part, f.name), whole) for f in kept if f.name != "sites"}

    return whole(config)


def micro_batch_size(config: RunConfig, halvings: int = 0) -> int:
    """Examples of a forward pass in training on one device, after memory ran out so many times."""
    share = -(-config.recipe.batch_size // config.hardware.devices)
    return max(1, min(config.hardware.micro_batch_size or share, share) >> halvings)


def halved(config: RunConfig, halvings: int) -> RunConfig:
    """The same run in smaller batches, of training and evaluation: the global batch stays."""
    if not halvings:
        return config
    evaluation = max(1, config.hardware.eval_batch_size >> halvings)
    micro = micro_batch_size(config, halvings)
    hardware = dataclasses.replace(config.hardware, micro_batch_size=micro, eval_batch_size=evaluation)
    return dataclasses.replace(config, hardware=hardware)


#: Set by loading, from all of a command line.
_SAID = ("changed", "sweep")


def sinks() -> list[str]:
    """The keys of a run that say where things are or go, or how it survives: none makes another run of it."""
    return [f.name for f in dataclasses.fields(RunConfig) if f.metadata.get("sink", False) and f.name not in _SAID]


def settable(run: dict[str, Any]) -> dict[str, Any]:
    """A run's keys, nested, without what lies below those that only describe (a method's `search`)."""
    kinds = {f.name: f.type for f in dataclasses.fields(RunConfig) if dataclasses.is_dataclass(f.type)}

    def shallow(kind: Any, part: Any) -> Any:
        if kind is None or not isinstance(part, dict):
            return part
        return {name: None if name in words(kind) else value for name, value in part.items()}

    return {name: shallow(kinds.get(name), part) for name, part in run.items()}


def is_open(key: str) -> bool:
    """Whether a key holds arguments of something else (an adapter), which may be added to."""
    part: Any = RunConfig
    for name in key.split("."):
        types = {f.name: f.type for f in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else {}
        part = types.get(name)
    return part is not None and "dict[" in str(part)


def _plain(value: Any, convert: Callable[[Any], dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_plain(part, convert) for part in value]
    if isinstance(value, dict):
        return {name: _plain(part, convert) for name, part in value.items()}
    return convert(value) if dataclasses.is_dataclass(value) else value


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value
