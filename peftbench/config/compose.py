"""From a command line to checked run configurations, with Hydra's errors said in one line."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from peftbench.config import hydra_compat, hydra_guard, identity, loading, paths, wording
from peftbench.config.dataset_types import USUAL
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, first_line, nearest
from peftbench.system import machine

# These may be left empty; the other groups need a choice.
_OPTIONAL = ("sweep", "experiment")
_LAUNCHER, _SWEEPER = "hydra/launcher", "hydra/sweeper"


def one(arguments: Sequence[str]) -> RunConfig:
    """The single run that these overrides describe.

    Raises:
        ConfigError: the first thing that is wrong, or they describe several.
    """
    with session(), resolving():
        overrides = parse(in_hydras_words(arguments, ()))
        check_choices(overrides, ())
        several = [o.input_line for o in overrides if o.is_sweep_override()]
        if several:
            raise ConfigError(f"{several[0]}: one run is described by one value a key")
        return loading.load_composed(composed([str(o.input_line) for o in overrides]))


def check_hydra(arguments: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Raises ConfigError for what Hydra's own part of a configuration may not say, where Hydra only shows it."""
    with session():
        composed(
            [str(o.input_line) for o in parse([*arguments, *search_path(config_dirs)]) if not o.is_sweep_override()]
        )


def canonical(arguments: Sequence[str], config_dirs: Sequence[Path] = ()) -> list[str]:
    """The overrides of a command line as Hydra takes them; see `wording.canonical`."""
    with session():
        return in_hydras_words(arguments, config_dirs)


def in_hydras_words(arguments: Sequence[str], config_dirs: Sequence[Path]) -> list[str]:
    """`canonical`, within a session."""
    wording.check_spaces(arguments)
    installed = GlobalHydra.instance().config_loader().get_group_options(_LAUNCHER)
    allowed = {group: paths.choices(group, config_dirs) for group in paths.groups()}
    return wording.canonical(arguments, {**allowed, _LAUNCHER: installed})


def search_path(config_dirs: Sequence[Path]) -> list[str]:
    """The override that makes Hydra look into these folders too."""
    if not config_dirs:
        return []
    quoted = (wording.quoted(f"file://{folder.resolve()}") for folder in config_dirs)
    return [f"hydra.searchpath=[{','.join(quoted)}]"]


@contextmanager
def resolving() -> Iterator[None]:
    """Raises ConfigError where, while entered, a value refers to what isn't there."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigError(loading.unresolved(error)) from None


@contextmanager
def session() -> Iterator[None]:
    """A session of Hydra: while entered, configurations can be composed, and each file is read once."""
    # Hydra has one global instance, and tuning composes while a launcher's Hydra is in that place.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(paths.CONF), version_base=hydra_compat.VERSION):
        hydra_compat.read_files_once(GlobalHydra.instance().config_loader(), loading.yaml_problem)
        yield
    if outer is not None:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().initialize(outer)


def parse(arguments: Sequence[str]) -> list[Override]:
    """The overrides of a command line, by Hydra's grammar. Raises ConfigError naming the argument that is none."""
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = []
    for argument in arguments:
        try:
            # One by one, to name the one that is wrong; not `parse_override`, whose result can't expand glob(...).
            overrides += parser.parse_overrides([argument])
        except HydraException as error:
            detail = first_line(error)
            why = wording.hint(argument) or f"is not of the form key=value or group=choice ({detail})"
            raise ConfigError(f"{argument!r} {why}") from None
        if not overrides[-1].key_or_group:
            raise ConfigError(f"{argument!r} is not of the form key=value or group=choice (it has no key)")
    return overrides


def check_choices(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
    """Raises ConfigError for a choice that isn't there, or a method on top of an experiment that fixes its own."""
    groups = paths.groups()
    experiment = None
    for override in overrides:
        group = override.key_or_group
        if group == _LAUNCHER:
            _check_launcher(override)
        if group == _SWEEPER:
            raise ConfigError(f"{override.input_line}: peftbench combines by itself (zip, exclude) and tunes by tune=N")
        if group not in groups or override.is_delete():
            continue
        allowed = paths.choices(group, config_dirs)
        if group in identity.sinks() and len(set(map(str, values := _values(override)))) > 1:
            several = f"several for one run: {group}=[{','.join(map(str, values))}]"
            raise ConfigError(f"{override.input_line}: runs that differ in their {group} alone are one run; {several}")
        for choice in _values(override):
            if choice is None and group in _OPTIONAL:
                continue
            if not isinstance(choice, str):
                raise ConfigError(f"{override.input_line}: a group takes one name; for several runs write {group}=a,b")
            if choice not in allowed:
                raise ConfigError(f"{group}={choice}: no such {group}; {nearest(choice, allowed)}")
            experiment = choice if group == "experiment" else experiment
    if experiment is not None and any(o.key_or_group == "method" for o in overrides):
        raise ConfigError(
            f"method=: experiment={experiment} fixes its method; its hyper-parameters would leak onto another"
        )


def _check_launcher(override: Override) -> None:
    """Raises ConfigError for a launcher whose plugin isn't installed, with the extra that installs it."""
    allowed = GlobalHydra.instance().config_loader().get_group_options(_LAUNCHER)
    for choice in _values(override):
        if choice not in allowed:
            extra = str(choice).partition("_")[0].casefold()
            is_installed = any(name.startswith(extra) for name in allowed)
            missing = extra in machine.extras() and not is_installed
            cure = f'; pip install "peftbench[{extra}]" brings it' if missing else ""
            raise ConfigError(f"{_LAUNCHER}={choice}: no such launcher here; {nearest(str(choice), allowed)}{cure}")


def _values(override: Override) -> list[Any]:
    """The values that an override sets its key to: one, or each of the swept ones."""
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    return [override.value()]


def composed(arguments: Sequence[str]) -> DictConfig:
    """The configuration that Hydra makes of one run's overrides; its errors in one line."""
    try:
        config = compose("config", overrides=list(arguments), return_hydra_config=True)
        hydra_guard.check(config.hydra, str(config.results_dir), parse(arguments))
        return config
    except ConfigError:
        raise
    except Exception as error:  # Hydra answers some arguments with its own errors, some with Python's.
        raise ConfigError(_message(first_line(error), str(error), arguments)) from None


def _message(first: str, text: str, arguments: Sequence[str]) -> str:
    """Hydra says an unknown key in three lines and doesn't say which are known."""
    unknown = re.search(r"Could not (?:override|append to config|delete)[^']*'([^']+)'", text)
    if unknown is None:
        return first
    key = unknown.group(1).lstrip("+~").split("=")[0]
    # Composed again from the group choices alone, to see which keys there are beside the unknown one.
    chosen = [a for a in arguments if a.lstrip("+").split("=")[0].split("@")[0] in (*paths.groups(), _LAUNCHER)]
    node: Any = compose("config", overrides=chosen, return_hydra_config=True)
    if meant := _meant(key, node):
        return f"{key}: no such key; meant may be {', '.join(meant)}"
    if not key.startswith("hydra."):
        node = OmegaConf.masked_copy(node, [name for name in node if name != "hydra"])
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if not isinstance(node, DictConfig) or parent not in node:
            parents, last = parents[:depth], parent
            break
        node = hydra_compat.unresolved(node, parent)
    if not isinstance(node, DictConfig):
        return f"{key}: {'.'.join(parents)} is a single value and has no keys"
    where = ".".join(parents)
    add = f" (an argument that isn't listed is added by +{key}=...)" if identity.is_open(where) else ""
    allowed = sorted(str(k) for k in node)
    return f"{key}: no such key{' in ' + where if where else ''}; {nearest(last, allowed)}{add}"


def _meant(key: str, composed: DictConfig) -> list[str]:
    """The keys of a run, of its launcher, and the groups that end as an unknown key does."""
    run: Any = OmegaConf.to_container(composed, resolve=False)
    launcher = run.pop("hydra")["launcher"]
    run["dataset"] |= USUAL  # A file may leave them out: they can be set all the same.
    return wording.meant(key, {**identity.settable(run), "hydra": {"launcher": launcher}, _LAUNCHER: None})
