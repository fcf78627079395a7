"""The experiments of conf/experiment and the data sets that each has a protocol or a figure for, read off their files:
composing them all would take half a minute."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from peftbench.config import compose, loading, paths, protocol, rules
from peftbench.config.expected import ExpectedConfig
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError

GROUP = "experiment"


@dataclass(frozen=True)
class Claim:
    """A published figure with a run line: what `experiment=<name> dataset=<dataset>` is judged by. `expected` is None
    where the paper prints nothing of this data set alone."""

    experiment: str
    dataset: str
    expected: ExpectedConfig | None


def claims(config_dirs: Sequence[Path] = ()) -> list[Claim]:
    """Every experiment on every data set that its file names, in the files' order.

    Raises:
        ConfigError: a file's figure isn't of its form.
    """
    files = paths.choice_files(GROUP, config_dirs)
    return [claim for name in sorted(files) for claim in _claims(name, loading.read_yaml(files[name]))]


def _claims(name: str, content: dict[str, Any]) -> list[Claim]:
    rows, shared = content.get(protocol.EXPECTED) or {}, content.get(protocol.DEPARTURES) or []
    datasets = dict.fromkeys([*(content.get(protocol.PROTOCOL) or {}), *rows])
    return [Claim(name, dataset, _expected(name, dataset, rows.get(dataset), shared)) for dataset in datasets]


def _expected(name: str, dataset: str, row: dict[str, Any] | None, shared: list[str]) -> ExpectedConfig | None:
    if row is None:
        return None
    try:
        expected = ExpectedConfig(**{**row, protocol.DEPARTURES: [*shared, *(row.get(protocol.DEPARTURES) or [])]})
    except TypeError as error:
        what = str(error).replace("ExpectedConfig.__init__() ", "")
        raise ConfigError(f"{GROUP}={name}: {protocol.EXPECTED}.{dataset}: {what}") from None
    rules.check(expected, f"{protocol.EXPECTED}.{dataset}.")
    return expected


def on_all_datasets(name: str, config_dirs: Sequence[Path] = ()) -> list[RunConfig]:
    """An experiment's run on each data set that its file names, composed once: the other data sets take the first
    one's place. A fifth of the time of composing each by Hydra.

    Raises:
        ConfigError: one of them is wrong.
    """
    content = loading.read_yaml(paths.choice_files(GROUP, config_dirs)[name])
    datasets = [claim.dataset for claim in _claims(name, content)]
    with compose.session(), compose.resolving():
        composed = compose.composed([f"{GROUP}={name}", *compose.search_path(config_dirs)])
        if not datasets:
            return [loading.load_composed(composed)]
        choices = paths.choices("dataset", config_dirs)
        for dataset in datasets:
            if dataset not in choices:
                raise ConfigError(f"{protocol.PROTOCOL}.{dataset}: no such data set")
        own = content.get("dataset") or {}
        return [_on(composed, dataset, own, tuple(config_dirs)) for dataset in datasets]


def _on(composed: DictConfig, dataset: str, own: dict[str, Any], config_dirs: tuple[Path, ...]) -> RunConfig:
    """A composed experiment with another data set, over which its file sets keys of its own."""
    other = composed.copy()
    OmegaConf.set_struct(other, False)
    other.dataset = OmegaConf.merge(_dataset(dataset, config_dirs), own)
    other.hydra.runtime.choices["dataset"] = dataset
    return loading.load_composed(other)


@functools.lru_cache(maxsize=100)
def _dataset(name: str, config_dirs: tuple[Path, ...]) -> Any:
    """A data set's node as Hydra composes it."""
    return compose.composed([f"dataset={name}", *compose.search_path(config_dirs)]).dataset


def official(name: str, dataset: str, config_dirs: Sequence[Path] = ()) -> RunConfig:
    """An experiment's run on a data set as its file has it.

    Raises:
        ConfigError: there is no such experiment or data set, or the file is wrong.
    """
    with compose.session(), compose.resolving():
        words = [f"{GROUP}={name}", f"dataset={dataset}", *compose.search_path(config_dirs)]
        compose.check_choices(compose.parse(words[:2]), config_dirs)
        return loading.load_composed(compose.composed(words))
