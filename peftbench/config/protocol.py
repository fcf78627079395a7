"""An experiment's parts that go by the data set: its protocol (rates, epochs, lengths) and what its paper printed.

An experiment's file has, beside what all of its data sets share,

    protocol: {rte: {method: {lr: 5e-4}, recipe: {epochs: 80}, start_from: {experiment: ..., dataset: mnli}}}
    expected: {rte: {value: 0.866, ...}}
    departures: [what the paper doesn't say, ...]

The command line wins over the protocol, the protocol over the rest of the file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from peftbench.errors import ConfigError

PROTOCOL, EXPECTED, DEPARTURES, START = "protocol", "expected", "departures", "start_from"
FINDING = "finding"
#: The keys of a run's requirement, and what they name.
_START = {"experiment", "dataset"}


@dataclass(frozen=True)
class Settled:
    """A configuration with the protocol of its data set merged in.

    Attributes:
        keys: what the protocol set.
        start: `experiment` and `dataset` of the run that it goes on from; None: it starts at the checkpoint.
    """

    composed: DictConfig
    keys: list[str] = field(default_factory=list)
    start: dict[str, str] | None = None


def settle(composed: DictConfig, dataset: str | None, overrides: Sequence[str]) -> Settled:
    """Merge the protocol of a data set into a configuration.

    Args:
        dataset: the choice of `dataset=`.
        overrides: of the command line, which win.

    Raises:
        ConfigError: there is a protocol, and none for this data set.
    """
    protocols: Any = OmegaConf.to_container(composed[PROTOCOL], resolve=False) if composed.get(PROTOCOL) else None
    if protocols is None:
        return Settled(composed)
    if not isinstance(protocols, dict) or not all(isinstance(part, dict) for part in protocols.values()):
        raise ConfigError(f"{PROTOCOL}: allowed is a mapping of data sets to the keys that go by them")
    if dataset not in protocols:
        has = ", ".join(map(str, protocols))
        raise ConfigError(f"dataset={dataset}: the experiment has no protocol for it; it has those of {has}")
    words = [word.lstrip("+~") for word in overrides]
    # `dataset=` chooses the protocol: it doesn't replace what that says of the data.
    written = [key for word in words if (key := word.partition("=")[0]) != "dataset"]
    part = _without(protocols[dataset], written, "")
    start = _start(protocols[dataset].get(START))
    part.pop(START, None)
    merged: Any = OmegaConf.merge(composed, part)
    return Settled(merged, sorted(_leaves(part, "")), None if f"{START}=null" in words else start)


def _without(part: dict[Any, Any], written: Sequence[str], prefix: str) -> dict[Any, Any]:
    """A protocol without the keys that the command line sets."""
    rest = {}
    for name, value in part.items():
        key = f"{prefix}{name}"
        if key in written:
            continue
        rest[name] = _without(value, written, f"{key}.") if isinstance(value, dict) else value
    return rest


def _leaves(part: dict[Any, Any], prefix: str) -> Iterator[str]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def take(raw: dict[Any, Any], dataset: str) -> None:
    """Replace an experiment's own keys in a run's raw configuration by what concerns this data set: `expected` with its
    departures.

    Raises:
        ConfigError: one of them isn't of its form.
    """
    raw.pop(PROTOCOL, None)
    raw.pop(FINDING, None)  # Of a sweep: what it is to show, which no run of it needs to know.
    shared, rows = raw.pop(DEPARTURES, None) or [], raw.pop(EXPECTED, None) or {}
    for key, value, kind in ((DEPARTURES, shared, list), (EXPECTED, rows, dict)):
        if not isinstance(value, kind):
            raise ConfigError(f"{key}: allowed is a {'list of sentences' if kind is list else 'row by data set'}")
    row = rows.get(dataset)
    if row is not None:
        if not isinstance(row, dict):
            raise ConfigError(f"{EXPECTED}.{dataset}: allowed is a row of value, metric, split, source and more")
        row = {**row, DEPARTURES: [*shared, *(row.get(DEPARTURES) or [])]}
    raw[EXPECTED] = row


def _start(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.keys() != _START:
        raise ConfigError(f"{PROTOCOL}: {START} allowed is a mapping of {' and '.join(sorted(_START))}")
    return {name: str(part) for name, part in value.items()}
