"""All that is wrong with a configuration, where `loading` stops at the first fault."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftbench.config import loading, rules
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError

#: What stands for a value that refers to what isn't there.
_LEFT_OUT = "?"


def faults(composed: DictConfig) -> list[str]:
    """All that is wrong with what `hydra.compose(..., return_hydra_config=True)` gave, a line each: every field is
    looked at by itself, and if each is right, all of them together."""
    choices, overrides = dict(composed.hydra.runtime.choices), composed.hydra.overrides.task
    folders = loading.search_path(composed.hydra.searchpath)
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    problems: dict[str, None] = {}
    while True:
        try:
            raw = loading.raw_values(composed, choices, overrides, folders)
            break
        except ConfigError as error:
            return [*problems, str(error)]
        except OmegaConfBaseException as error:
            problem, where = loading.interpolation_message(error, composed), error.full_key
            if not where or OmegaConf.select(composed, where, throw_on_resolution_failure=False) == _LEFT_OUT:
                return [*problems, problem]
            problems[problem] = None
            OmegaConf.update(composed, where, _LEFT_OUT)  # To see what else there is.
    problems |= dict.fromkeys(_of(RunConfig, raw, ""))
    if not problems:
        try:
            loading.checked(raw)
        except ConfigError as error:
            return [str(error)]
    return list(problems)


def _of(kind: Any, raw: dict[Any, Any], prefix: str) -> Iterator[str]:
    """A line for each field of a section that is unknown, missing, of the wrong type or outside its range."""
    fields = {f.name: f for f in dataclasses.fields(kind)}
    yield from loading.unknown_keys(fields, raw, prefix)
    for name, declared in fields.items():
        value = raw.get(name)
        if name not in raw:
            if loading.is_required(declared):
                yield f"{prefix}{name}: is required and not set".replace("method.target", "method._target_")
        elif dataclasses.is_dataclass(declared.type) and isinstance(value, dict):
            yield from _of(declared.type, value, f"{prefix}{name}.")
        elif value != _LEFT_OUT:
            try:
                single = loading.merged(loading.without(kind, *(fields.keys() - {name})), {name: value}, prefix)
                rules.check(single, prefix)
                rules.check_finite({name: dataclasses.asdict(single)[name]}, prefix.removesuffix("."))
            except ConfigError as error:
                yield str(error)
