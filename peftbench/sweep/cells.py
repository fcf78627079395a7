"""The runs that a command line means, each composed and checked."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from peftbench.config import loading, paths, rules
from peftbench.config.compose import check_choices, composed, in_hydras_words, parse, resolving, search_path, session
from peftbench.config.types import RunConfig
from peftbench.sweep import combine, launchers


@dataclass(frozen=True)
class Cells:
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


def plan(arguments: Sequence[str], *, multirun: bool, config_dirs: Sequence[Path] = ()) -> Cells:
    """Compose and check every cell of a command line.

    Args:
        arguments: Hydra overrides, for example `["method=lora,prefix", "dataset=sst2"]`.
        multirun: whether `-m` was given; a prepared sweep or a list of choices implies it.
        config_dirs: further folders laid out like conf/, searched after it.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    with session(), resolving():
        arguments = [*in_hydras_words(arguments, config_dirs), *search_path(config_dirs)]
        overrides = parse(arguments)
        check_choices(overrides, config_dirs)
        fixed = [str(o.input_line) for o in overrides if not o.is_sweep_override()]
        base = composed(fixed)
        swept = parse([f"{k}={v}" for k, v in (base.hydra.sweeper.params or {}).items()])
        check_choices(swept, config_dirs)
        several = bool(swept) or any(o.is_sweep_override() for o in overrides)
        multirun = multirun or several or base.tune is not None
        if not multirun:
            return Cells([loading.load_composed(base)], multirun=False)
        return _several([*swept, *overrides], base, narrowed=_narrowed(swept, overrides))


def _narrowed(swept: Sequence[Override], overrides: Sequence[Override]) -> bool:
    """True if the command line replaces values of a prepared sweep but not its `exclude`, which may then meet no
    run."""
    keys = {override.get_key_element() for override in overrides}
    return "exclude" not in keys and not keys.isdisjoint(override.get_key_element() for override in swept)


def _several(overrides: list[Override], base: DictConfig, *, narrowed: bool) -> Cells:
    combinations = combine.combinations(overrides, together=loading.plain(base.zip))
    cells = combine.without(
        list(_cells(combinations)), loading.plain(base.exclude), groups=paths.groups(), narrowed=narrowed
    )
    launcher = launchers.describe(base.hydra.launcher, [config for config, _ in cells])
    divided = [launcher.divide(*_untuned(config, words)) for config, words in cells]
    return Cells(
        [config for config, _ in divided],
        multirun=True,
        overrides=[words for _, words in divided],
        launcher=launcher,
        excluded=len(combinations) - len(cells),
    )


def _untuned(config: RunConfig, words: list[str]) -> combine.ComposedRun:
    """A cell with `tune=null` where there is nothing to search: the number of trials would only split its key."""
    trains = config.method.lr is not None
    if config.tune is None or config.method.search or (config.tune_space and trains):
        return config, words
    return replace(config, tune=None, tune_space=None, tune_halving=None), [
        *words,
        "tune=null",
        "tune_space=null",
        "tune_halving=null",
    ]


def _cells(combinations: list[list[str]]) -> Iterator[tuple[RunConfig, list[str]]]:
    """Cells that differ in the seed alone are composed once: composing is what a large sweep waits for."""
    by_others: dict[tuple[str, ...], RunConfig] = {}
    for combination in combinations:
        seeds = [o for o in combination if re.fullmatch(r"seed=\d+", o)]
        others = tuple(o for o in combination if o not in seeds)
        if others in by_others:
            config = replace(by_others[others], seed=int(seeds[-1].removeprefix("seed=")))
            rules.check(config, "")
            yield config, combination
            continue
        raw = composed([*others, *seeds])
        alike = seeds and not loading.interpolates(raw, "seed")
        config = loading.load_composed(raw)
        if alike:
            by_others[others] = config
        yield config, combination
