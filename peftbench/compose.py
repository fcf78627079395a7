"""From a command line to checked run configurations, with Hydra's errors said in one line."""

import copy
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from peftbench import combine, guard, launchers, paths, rules, schema, system, wording
from peftbench.errors import ConfigError, nearest
from peftbench.schema import RunConfig

# These may be left empty; the other groups need a choice.
_OPTIONAL = ("sweep", "experiment")
_LAUNCHER, _SWEEPER = "hydra/launcher", "hydra/sweeper"


@dataclass(frozen=True)
class Plan:
    """Every cell of one command line.

    Attributes:
        cells: what is run.
        overrides: what each cell is composed from, by a launcher too.
        multirun: whether a launcher runs them; else Hydra runs the one cell.
        launcher: how the launcher works, where there is one.
        excluded: how many cells `exclude` took out.
    """

    cells: list[RunConfig]
    multirun: bool
    overrides: list[list[str]] = field(default_factory=list)
    launcher: launchers.Launcher = launchers.NONE
    excluded: int = 0


def plan(arguments: Sequence[str], *, multirun: bool, config_dirs: Sequence[Path] = ()) -> Plan:
    """Compose and check every cell of a command line.

    Args:
        arguments: Hydra overrides, for example `["method=lora,prefix", "dataset=sst2"]`.
        multirun: whether `-m` was given; a prepared sweep or a list of choices implies it.
        config_dirs: further folders laid out like conf/, searched after it.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    with _hydra(), _resolving():
        arguments = [*_canonical(arguments, config_dirs), *search_path(config_dirs)]
        overrides = _parse(arguments)
        _check_choices(overrides, config_dirs)
        fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
        base = _compose(fixed)
        swept = _parse([f"{k}={v}" for k, v in (base.hydra.sweeper.params or {}).items()])
        _check_choices(swept, config_dirs)
        several = bool(swept) or any(o.is_sweep_override() for o in overrides)
        multirun = multirun or several or base.tune is not None
        if not multirun:
            return Plan([schema.load_composed(base)], multirun=False)
        return _several([*swept, *overrides], base, narrowed=_narrowed(swept, overrides))


def _narrowed(swept: Sequence[Override], overrides: Sequence[Override]) -> bool:
    """Whether the command line replaces values of a prepared sweep, and not the conditions that go with them."""
    given = {override.get_key_element() for override in overrides}
    return "exclude" not in given and not given.isdisjoint(override.get_key_element() for override in swept)


def _several(overrides: list[Override], base: DictConfig, *, narrowed: bool) -> Plan:
    combinations = combine.combinations(overrides, together=schema.plain(base.zip))
    found = combine.without(
        list(_cells(combinations)), schema.plain(base.exclude), groups=paths.groups(), narrowed=narrowed
    )
    launcher = launchers.describe(base.hydra.launcher, [config for config, _ in found])
    divided = [launcher.divide(*_untuned(config, words)) for config, words in found]
    return Plan(
        [config for config, _ in divided],
        multirun=True,
        overrides=[words for _, words in divided],
        launcher=launcher,
        excluded=len(combinations) - len(found),
    )


def one(arguments: Sequence[str]) -> RunConfig:
    """The single run that these overrides describe."""
    return plan(arguments, multirun=False).cells[0]


def check_hydra(arguments: Sequence[str], config_dirs: Sequence[Path]) -> None:
    """Raises ConfigError for what Hydra's own part of a configuration may not say, where Hydra only shows it."""
    with _hydra():
        _compose(
            [str(o.input_line) for o in _parse([*arguments, *search_path(config_dirs)]) if not o.is_sweep_override()]
        )


def canonical(arguments: Sequence[str], config_dirs: Sequence[Path] = ()) -> list[str]:
    """The overrides of a command line as Hydra takes them; see `wording.canonical`."""
    with _hydra():
        return _canonical(arguments, config_dirs)


def _canonical(arguments: Sequence[str], config_dirs: Sequence[Path]) -> list[str]:
    wording.check_spaces(arguments)
    launchers_there = GlobalHydra.instance().config_loader().get_group_options(_LAUNCHER)
    allowed = {group: paths.choices(group, config_dirs) for group in paths.groups()}
    return wording.canonical(arguments, {**allowed, _LAUNCHER: launchers_there})


def search_path(config_dirs: Sequence[Path]) -> list[str]:
    """The override that makes Hydra look into these folders too."""
    if not config_dirs:
        return []
    quoted = (wording.quoted(f"file://{folder.resolve()}") for folder in config_dirs)
    return [f"hydra.searchpath=[{','.join(quoted)}]"]


def _untuned(config: RunConfig, words: list[str]) -> combine.Composed:
    """A method that has nothing to search is the same run however many trials the others get."""
    if config.tune is None or config.method.search:
        return config, words
    return replace(config, tune=None), [*words, "tune=null"]


@contextmanager
def _resolving() -> Iterator[None]:
    """Within this a value that refers to what isn't there is a ConfigError."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigError(schema.unresolved(error)) from None


@contextmanager
def _hydra() -> Iterator[None]:
    # Tuning composes while a launcher's Hydra is there, of which there can be one.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(paths.CONF), version_base="1.3"):
        loader: Any = GlobalHydra.instance().config_loader()
        loader.repository = _ReadOnce(loader.repository)
        yield
    if outer is not None:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().initialize(outer)


class _ReadOnce(CachingConfigRepository):
    """Hydra reads every file again for every cell, which is most of the time that composing takes; here each is read
    once a command, and by a later command of this process only if it has changed since."""

    _kept: ClassVar[dict[tuple[str, str], tuple[Any, ConfigResult]]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_ReadOnce":
        return self

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self.cache:
            self.cache[config_path] = self._read(config_path)
        return self.cache[config_path]

    def _read(self, config_path: str) -> ConfigResult | None:
        source: Any = self.delegate._find_object_source(config_path, ObjectType.CONFIG)  # type: ignore[attr-defined]
        if source is None:
            return None
        stamp = None  # What comes with a package doesn't change.
        if source.scheme() == "file":
            written = os.stat(os.path.join(source.path, source._normalize_file_name(config_path)))
            stamp = (written.st_ino, written.st_mtime_ns, written.st_size)
        at = (source.path, config_path)
        if at not in self._kept or self._kept[at][0] != stamp:
            try:
                self._kept[at] = stamp, self.delegate.load_config(config_path)  # type: ignore[assignment]
            except (OSError, ValueError, YAMLError) as error:
                raise ConfigError(f"{os.path.join(*at)}: {schema.yaml_problem(error)}") from None
        # A copy, for overrides are written into what was read.
        return copy.deepcopy(self._kept[at][1])


def _cells(combinations: list[list[str]]) -> Iterator[tuple[RunConfig, list[str]]]:
    """Cells that differ in the seed alone are composed once: composing is what a large sweep waits for."""
    composed: dict[tuple[str, ...], RunConfig] = {}
    for combination in combinations:
        seeds = [o for o in combination if re.fullmatch(r"seed=\d+", o)]
        others = tuple(o for o in combination if o not in seeds)
        if others in composed:
            config = replace(composed[others], seed=int(seeds[-1].removeprefix("seed=")))
            rules.check(config, "")
            yield config, combination
            continue
        raw = _compose([*others, *seeds])
        alike = seeds and not schema.interpolates(raw, "seed")
        config = schema.load_composed(raw)
        if alike:
            composed[others] = config
        yield config, combination


def _parse(arguments: Sequence[str]) -> list[Override]:
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    overrides = []
    for argument in arguments:
        try:
            # One by one, to name the one that is wrong; not `parse_override`, whose result can't expand glob(...).
            overrides += parser.parse_overrides([argument])
        except HydraException as error:
            detail = str(error).splitlines()[0]
            why = wording.hint(argument) or f"is not of the form key=value or group=choice ({detail})"
            raise ConfigError(f"{argument!r} {why}") from None
        if not overrides[-1].key_or_group:
            raise ConfigError(f"{argument!r} is not of the form key=value or group=choice (it has no key)")
    return overrides


def _check_choices(overrides: Sequence[Override], config_dirs: Sequence[Path]) -> None:
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
        if group in schema.sinks() and len(set(map(str, values := _values(override)))) > 1:
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
    allowed = GlobalHydra.instance().config_loader().get_group_options(_LAUNCHER)
    for choice in _values(override):
        if choice not in allowed:
            extra = str(choice).partition("_")[0].casefold()
            in_part = any(name.startswith(extra) for name in allowed)
            cure = f'; pip install "peftbench[{extra}]" brings it' if extra in system.extras() and not in_part else ""
            raise ConfigError(f"{_LAUNCHER}={choice}: no such launcher here; {nearest(str(choice), allowed)}{cure}")


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator()) if override.is_discrete_sweep() else []
    return [override.value()]


def _compose(arguments: Sequence[str]) -> DictConfig:
    try:
        composed = compose("config", overrides=list(arguments), return_hydra_config=True)
        guard.check(composed.hydra, str(composed.results_dir), _parse(arguments))
        return composed
    except ConfigError:
        raise
    except Exception as error:  # Hydra answers some arguments with its own errors, some with Python's.
        raise ConfigError(_message(str(error), arguments)) from None


def _message(text: str, arguments: Sequence[str]) -> str:
    """Hydra says an unknown key in three lines and doesn't say which are known."""
    unknown = re.search(r"Could not (?:override|append to config|delete)[^']*'([^']+)'", text)
    if unknown is None:
        return text.splitlines()[0]
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
        node = node._get_node(parent)
    if not isinstance(node, DictConfig):
        return f"{key}: {'.'.join(parents)} is a single value and has no keys"
    where = ".".join(parents)
    add = f" (an argument that isn't listed is added by +{key}=...)" if schema.is_open(where) else ""
    allowed = sorted(str(k) for k in node)
    return f"{key}: no such key{' in ' + where if where else ''}; {nearest(last, allowed)}{add}"


def _meant(key: str, composed: DictConfig) -> list[str]:
    """The keys of a run, of its launcher, and the groups that end as an unknown key does."""
    run: Any = OmegaConf.to_container(composed, resolve=False)
    launcher = run.pop("hydra")["launcher"]
    return wording.meant(key, {**schema.settable(run), "hydra": {"launcher": launcher}, _LAUNCHER: None})
