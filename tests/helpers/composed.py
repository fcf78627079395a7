"""Configurations for tests, each composed once a session: composing took half of the time of the tests of methods."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from hydra.utils import get_class

from peftbench.config import compose, loading, paths
from peftbench.config.types import RunConfig

#: Where things are: nothing else in a configuration depends on them.
_PLACES = ("results_dir", "data_root", "model_root")


def composed(overrides: Sequence[str]) -> RunConfig:
    """`compose.one`, for tests whose subject isn't composing."""
    places: dict[str, Any] = {
        key: value for key, _, value in (word.partition("=") for word in overrides) if key in _PLACES
    }
    others = tuple(word for word in overrides if word.partition("=")[0] not in _PLACES)
    return replace(copy.deepcopy(_once(others)), **places)


@cache
def written(group: str) -> dict[str, dict[str, Any]]:
    """A group's files as they are written. Tests are enumerated from these: composing all takes 12 s a worker."""
    return {name: loading.read_yaml(file) for name, file in paths.choice_files(group).items()}


def trained() -> dict[str, dict[str, Any]]:
    """The files of the methods that train something."""
    return {name: file for name, file in written("method").items() if file["lr"] is not None}


def adapter_classes(of: type) -> dict[str, type]:
    """By method of this class: the peft configuration that its file names."""
    files = {name: file for name, file in written("method").items() if issubclass(get_class(file["_target_"]), of)}
    return {name: get_class(file["adapter"]["_target_"]) for name, file in files.items()}


@cache
def _once(overrides: tuple[str, ...]) -> RunConfig:
    return compose.one(overrides)
