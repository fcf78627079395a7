"""Configurations for tests, each composed once a session: composing took half of the time of the tests of methods."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from peftbench import compose, paths, schema
from peftbench.schema import RunConfig

#: Where things are: nothing else in a configuration depends on them.
_PLACES = ("results_dir", "data_root", "model_root")


def composed(overrides: Sequence[str]) -> RunConfig:
    """`compose.one`, for tests whose subject isn't composing."""
    places = {key: value for key, _, value in (word.partition("=") for word in overrides) if key in _PLACES}
    others = tuple(word for word in overrides if word.partition("=")[0] not in _PLACES)
    return replace(copy.deepcopy(_once(others)), **places)


@cache
def trained() -> dict[str, dict[str, Any]]:
    """The files of the methods that train something, by name, as they are: composing them all takes ten seconds."""
    files = {name: schema.read_yaml(file) for name, file in paths.choice_files("method").items()}
    return {name: file for name, file in files.items() if file["lr"] is not None}


@cache
def _once(overrides: tuple[str, ...]) -> RunConfig:
    return compose.one(overrides)
