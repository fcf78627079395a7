"""From what Hydra composed to plain dataclasses; what is wrong is one line, with the key and what is allowed."""

import copy
import dataclasses
import functools
import secrets
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from peftbench.config import hydra_guard, lm_eval_tasks, mixture, placing, protocol, rules, targets, together, wording
from peftbench.config.dataset_types import DatasetConfig
from peftbench.config.fields import is_sink
from peftbench.config.hosted import HOSTED
from peftbench.config.identity import settable
from peftbench.config.shorthand import written_out
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, first_line

# Cached in the configuration, so that all jobs of a sweep share it, whichever process they run in.
OmegaConf.register_new_resolver("peftbench.token", lambda: secrets.token_hex(3), replace=True, use_cache=True)

T = TypeVar("T")

#: Typed sections, by class, prefix and how they were written.
_SECTIONS: dict[tuple[Any, str, str], Any] = {}

_NAMED = ("model", "method", "dataset", "hardware")


def load(
    composed: DictConfig, choices: Mapping[str, str | None], overrides: Any = (), folders: Sequence[Path] = ()
) -> RunConfig:
    """The configuration that Hydra composed, as a checked `RunConfig`.

    Args:
        composed: the configuration without its `hydra` node.
        choices: the chosen file of every group (`hydra.runtime.choices`), which names the parts.
        overrides: the command line's (`hydra.overrides.task`).
        folders: further folders laid out like conf/ (`hydra.searchpath`), for the parts of a mixture.

    Raises:
        ConfigError: a key is unknown, missing, of the wrong type or outside its range.
    """
    try:
        raw = raw_values(composed, choices, overrides, folders)
    except OmegaConfBaseException as error:
        raise ConfigError(interpolation_message(error, composed)) from None
    return checked(raw)


def raw_values(
    composed: DictConfig, choices: Mapping[str, str | None], overrides: Any, folders: Sequence[Path]
) -> dict[Any, Any]:
    """The plain values that Hydra composed, named as the fields of `RunConfig` are, with short forms written out.

    Raises:
        OmegaConfBaseException: a value refers to what isn't there; ConfigError: a group has no choice.
    """
    targets.make_importable(folders)
    written: Any = OmegaConf.to_container(overrides) if OmegaConf.is_list(overrides) else overrides
    settled = protocol.settle(composed, choices.get("dataset"), written)
    composed = settled.composed
    raw = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(raw, dict)
    for group in _NAMED:
        if not isinstance(raw.get(group), dict) or choices.get(group) is None:
            raise ConfigError(f"{group}: is required; a run has one of each of {', '.join(_NAMED)}")
        hydra_guard.check_name(group, choices[group])
        raw[group]["name"] = choices[group]
    raw["dataset"] = written_out(raw["dataset"])
    if raw["dataset"].get("metrics", {}) is None:
        del raw["dataset"]["metrics"]
    # No benchmark is no key: a run that asks none is the same as before there were any.
    raw["forgetting"] = lm_eval_tasks.expand(raw.get("forgetting") or {}) or None
    raw["evaluation"] = raw.get("evaluation") or None
    raw["method"]["target"] = raw["method"].pop("_target_", None)
    protocol.take(raw, raw["dataset"]["name"])
    raw["by_dataset"], raw["start"] = settled.keys, settled.start
    raw["changed"] = [o for o in written if _sets_up(o.lstrip("+~"))]
    placing.place(raw["model"], raw["changed"])
    raw["experiment"], raw["sweep"] = choices.get("experiment"), choices.get("sweep")
    mixture.take_templates(raw["dataset"], written)
    if raw["dataset"].get("task") == mixture.TASK:
        raw["dataset"] = mixture.expand(
            raw["dataset"],
            folders=folders,
            read=lambda file: written_out(read_yaml(file)),
            as_text=raw.get("formulation") == "text",
        )
        if OmegaConf.is_interpolation(composed.recipe, "max_length") and "max_length" in raw["dataset"]:
            raw["recipe"]["max_length"] = max(raw["recipe"]["max_length"], raw["dataset"]["max_length"])
    return raw


def checked(raw: dict[Any, Any]) -> RunConfig:
    """Plain values as a configuration. Raises ConfigError for the first fault."""
    config = _with_parts(_typed(RunConfig, raw, ""))
    rules.check(config, "")
    rules.check_finite(dataclasses.asdict(config), "")
    together.check(config)
    if config.recipe.loss_on == "answer":  # One run, one key: it is what null means.
        config.recipe.loss_on = None
    # Checked like any key, so that a slip is said; of a model that is here it decides nothing.
    return config if config.model.family == HOSTED else dataclasses.replace(config, hosted=None)


def _typed(kind: type[T], raw: dict[Any, Any], prefix: str) -> T:
    """Raises ConfigError for a key that is unknown, missing or of the wrong type."""
    fields: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for problem in unknown_keys(fields, raw, prefix):
        raise ConfigError(problem)
    parts = [key for key, value in raw.items() if dataclasses.is_dataclass(fields[key]) and isinstance(value, dict)]
    typed = {key: _section(fields[key], raw[key], f"{prefix}{key}.") for key in parts}
    single = {key: value for key, value in raw.items() if key not in parts}
    rest = merged(without(kind, *parts), single, prefix)  # type: ignore[arg-type]
    return kind(**vars(rest), **typed)


def unknown_keys(fields: Mapping[str, Any], raw: dict[Any, Any], prefix: str) -> Iterator[str]:
    """A line for each key that isn't a field."""
    for key in sorted(raw.keys() - fields.keys(), key=str):
        meant = [] if prefix else wording.meant(key, settable({**raw, key: None}))
        allowed = f"meant may be {', '.join(meant)}" if meant else f"allowed are {', '.join(sorted(fields))}"
        yield f"{prefix}{key}: no such key; {allowed}"


def _section(kind: Any, raw: dict[Any, Any], prefix: str) -> Any:
    """A section of a configuration, typed. Each is checked once: a sweep's cells differ in a section or two, and
    checking types is a third of the time that composing takes."""
    written = (kind, prefix, repr(raw))
    if written not in _SECTIONS:
        _SECTIONS[written] = merged(kind, raw, prefix)
    return copy.deepcopy(_SECTIONS[written])


@functools.cache
def without(kind: Any, *names: str) -> type[Any]:
    """A dataclass less these fields."""
    fields = [(f.name, f.type, copy.copy(f)) for f in dataclasses.fields(kind) if f.name not in names]
    return dataclasses.make_dataclass(kind.__name__, fields, kw_only=True)


def merged(kind: type[T], raw: dict[Any, Any], prefix: str) -> T:
    _check_kinds(kind, raw, prefix)
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), raw))
    except OmegaConfBaseException as error:
        raise ConfigError(_type_message(error, prefix)) from None
    except OverflowError as error:
        raise ConfigError(f"{prefix}a number is too large ({first_line(error)})") from None
    assert isinstance(config, kind)
    return config


def _with_parts(config: RunConfig) -> RunConfig:
    """The configuration with the parts of its mixture checked and typed as data sets are."""
    if config.dataset.parts:
        config.dataset.parts = [_part(part, "parts") for part in config.dataset.parts]
    if config.dataset.held_out:
        config.dataset.held_out = [_part(part, "held_out") for part in config.dataset.held_out]
    return config


def _part(raw: dict[str, Any], key: str) -> DatasetConfig:
    prefix = f"dataset.{key}.{raw['name']}."
    part = _typed(DatasetConfig, raw, prefix)
    rules.check(part, prefix)
    return part


def _sets_up(override: str) -> bool:
    """True if an override changes method or model, and isn't one of a method's inputs, which are paths."""
    return override.startswith(("method.", "model.")) and not override.startswith("method.inputs.")


def from_description(described: dict[str, Any]) -> RunConfig:
    """The configuration of a recorded run, read from what `identity.description` wrote into its record.

    Records leave sinks out: those without a default get a placeholder. Code that comes with a model isn't trusted
    because a record says so.

    Raises:
        ConfigError: the record is of a version whose configuration isn't today's.
    """
    raw = _with_placeholders(RunConfig, described)
    raw["model"] = {**raw["model"], "sites": {}, "trust_remote_code": False}
    return _with_parts(_typed(RunConfig, raw, "a record's configuration can't be read: "))


def _with_placeholders(kind: Any, described: dict[str, Any]) -> dict[str, Any]:
    """A record's section, and those within it, with a placeholder for every sink that has no default."""
    sections = {
        f.name: _with_placeholders(f.type, described[f.name])
        for f in dataclasses.fields(kind)
        if dataclasses.is_dataclass(f.type) and isinstance(described.get(f.name), dict)
    }
    sinks = {f.name: _placeholder(f.type) for f in dataclasses.fields(kind) if is_sink(f) and is_required(f)}
    return {**described, **sections, **sinks}


def is_required(declared: "dataclasses.Field[Any]") -> bool:
    return declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING


def _placeholder(kind: Any) -> Any:
    """null where a type allows it, else its empty value: 0, false, an empty text, list or mapping."""
    return None if type(None) in typing.get_args(kind) else (typing.get_origin(kind) or kind)()


def _check_kinds(kind: Any, raw: Mapping[Any, Any], prefix: str) -> None:
    """Raises ConfigError for a number that OmegaConf takes for true (`overwrite=17`), or a value that is no section."""
    for f in dataclasses.fields(kind):
        value = raw.get(f.name)
        section = next(filter(dataclasses.is_dataclass, (f.type, *typing.get_args(f.type))), None)
        if section is not None and isinstance(value, Mapping):
            _check_kinds(section, value, f"{prefix}{f.name}.")
        elif f.type in (bool, Optional[bool]) and isinstance(value, int) and not isinstance(value, bool):
            raise ConfigError(f"{prefix}{f.name}={value}: allowed is true | false")
        elif section is f.type and value is not None:
            raise ConfigError(f"{prefix}{f.name}={value}: allowed are keys {', '.join(section.__dataclass_fields__)}")


def load_composed(composed: DictConfig) -> RunConfig:
    """`load` for what `hydra.compose(..., return_hydra_config=True)` gave."""
    choices, overrides = dict(composed.hydra.runtime.choices), composed.hydra.overrides.task
    folders = search_path(composed.hydra.searchpath)
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    return load(composed, choices, overrides, folders)


def search_path(places: Any) -> list[Path]:
    """The folders of Hydra's search path that are laid out like conf/."""
    return [Path(str(place).removeprefix("file://")) for place in places if str(place).startswith("file://")]


def interpolates(composed: DictConfig, key: str) -> bool:
    """True if any value refers to a key, as `${key}` does."""
    text = OmegaConf.to_yaml(composed, resolve=False)
    return f"{key}}}" in text


def _type_message(error: OmegaConfBaseException, prefix: str) -> str:
    key = f"{prefix}{error.full_key or ''}".replace("method.target", "method._target_")
    first = first_line(error.msg or error)
    if "not in" in first and error.parent_node is not None:
        return f"{key}: no such key; allowed are {', '.join(sorted(map(str, error.parent_node.keys())))}"
    if "missing" in first.lower() or "'None'" in first:
        return f"{key}: is required and not set"
    return f"{key}: {first}"


def interpolation_message(error: OmegaConfBaseException, composed: DictConfig) -> str:
    """A method that asks for a site which the model doesn't name is the usual case: say it in those words."""
    try:
        site, sites = OmegaConf.select(composed, "method.site"), OmegaConf.select(composed, "model.sites") or {}
    except OmegaConfBaseException:  # It is in there.
        site, sites = None, {}
    if site is not None and site not in sites:
        return f"method.site={site}: this model names no such site; allowed are {', '.join(sorted(sites))}"
    return unresolved(error)


def unresolved(error: OmegaConfBaseException) -> str:
    """A message that names the key which refers to what isn't there, in one line."""
    return f"{error.full_key or 'configuration'}: {first_line(error.msg or error)}"


def plain(value: Any) -> Any:
    """A node of a composed configuration as plain values."""
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as Hydra would read it, uncomposed.

    Raises:
        ConfigError: it can't be read, isn't YAML, or holds no keys.
    """
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {yaml_problem(error)}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: allowed is a YAML file of keys and values")
    return content  # type: ignore[return-value]


def yaml_problem(error: Exception) -> str:
    """The reason why a file can't be read as YAML, with the line and column, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    reason = problem or next(iter(str(error).splitlines()), type(error).__name__)
    return f"can't be read as YAML: {reason}{where}"
