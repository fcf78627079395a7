"""Of a configuration: what decides a run's result, what a record keeps of it, and how its batch is cut."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from peftbench.config.fields import is_sink
from peftbench.config.types import RunConfig
from peftbench.system import fingerprint


def identity(config: Any) -> dict[str, Any]:
    """The fields of a config that decide a run's result, nested; null ones left out."""
    fields = (f for f in dataclasses.fields(config) if f.metadata.get("identity", True))
    nested: dict[str, Any] = _without_nulls({f.name: _plain(getattr(config, f.name), identity) for f in fields})
    return nested


def described_identity(described: dict[str, Any]) -> str:
    """`identity` of the configuration that `description` was made of, as `fingerprint.text` has it: a record's own.
    A thousand records of a sweep have a few sections in common."""
    sections = {name: _section(name, msgspec.json.encode(value)) for name, value in described.items()}
    return fingerprint.object_text({name: written for name, written in sections.items() if written is not None})


@functools.lru_cache(maxsize=10_000)
def _section(name: str, encoded: bytes) -> str | None:
    part = _described({name: msgspec.json.decode(encoded)}, RunConfig)
    return fingerprint.text(part[name]) if name in part else None


#: What becomes of a field's value; None: it stays as it is.
_Reader = Callable[[Any], Any] | None


def _described(described: Any, kind: Any) -> Any:
    if not isinstance(described, dict):
        return described
    left_out, readers = _readers(kind)
    deciding = {}
    # What today's configuration doesn't have was a part of the identity then.
    for name, value in described.items():
        if value is not None and name not in left_out:
            read = readers.get(name)
            deciding[name] = _without_nulls(value) if read is None else read(value)
    return deciding


@functools.cache
def _readers(kind: Any) -> tuple[set[str], dict[str, Callable[[Any], Any]]]:
    """A dataclass's fields that aren't part of the identity, and a reader for each field that holds dataclasses."""
    readers: dict[str, Callable[[Any], Any]] = {}
    for f in dataclasses.fields(kind):
        items = f.metadata.get("items")
        read = _reader(list[items()] if items else f.type)  # type: ignore[misc]
        if read is not None:
            readers[f.name] = read
    return words(kind), readers


def _reader(kind: Any) -> _Reader:
    if dataclasses.is_dataclass(kind):
        return functools.partial(_described, kind=kind)
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    read = _reader(inner[-1]) if inner else None  # Of a dict[str, ...] the values.
    if read is None or typing.get_origin(kind) is typing.Union:
        return read
    if typing.get_origin(kind) is list:
        return lambda value: [read(part) for part in value]
    return lambda value: {name: read(part) for name, part in value.items()}


def words(kind: type) -> set[str]:
    """The fields of a config's class that decide nothing: they describe, or say where things are."""
    return {f.name for f in dataclasses.fields(kind) if not f.metadata.get("identity", True)}


def description(config: RunConfig) -> dict[str, Any]:
    """A configuration as a record keeps it: all but the sinks and places, nulls included."""

    def described(part: Any) -> dict[str, Any]:
        fields = (f for f in dataclasses.fields(part) if not is_sink(f))
        return {f.name: _plain(getattr(part, f.name), described) for f in fields if f.name != "sites"}

    return described(config)


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


#: Sinks that loading sets, from all of a command line.
_SET_BY_LOADING = ("changed", "sweep")


def sinks() -> list[str]:
    """The keys of a run that say where things are or go, or how it survives: none makes another run of it."""
    return [f.name for f in dataclasses.fields(RunConfig) if is_sink(f) and f.name not in _SET_BY_LOADING]


def settable(run: dict[str, Any]) -> dict[str, Any]:
    """A run's keys, nested, without what lies below those that only describe (a method's `search`)."""
    kinds = {f.name: f.type for f in dataclasses.fields(RunConfig) if dataclasses.is_dataclass(f.type)}

    def shallow(kind: Any, part: Any) -> Any:
        if kind is None or not isinstance(part, dict):
            return part
        return {name: None if name in words(kind) else value for name, value in part.items()}

    return {name: shallow(kinds.get(name), part) for name, part in run.items()}


def is_open(key: str) -> bool:
    """True if a key holds arguments of something else (an adapter), which may be added to."""
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
