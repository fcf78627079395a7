"""Which runs the swept values of a command line mean: all of their combinations, or fewer. Free of torch."""

import dataclasses
import fnmatch
import itertools
from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from peftbench.errors import ConfigError, nearest
from peftbench.schema import RunConfig

#: A run, and the overrides it is composed from.
Composed = tuple[RunConfig, list[str]]

_ZIP = "allowed is a list of two or more swept keys that go through their values together, or a list of such lists"
_EXCLUDE = 'allowed is a list of conditions such as "method=full model=roberta_*"'


def combinations(overrides: Sequence[Override], *, together: Any) -> list[list[str]]:
    """The overrides of every run: the product of the swept values, in which the last key changes fastest.

    Args:
        overrides: as parsed; of a key that comes twice the last counts.
        together: `zip`: keys that go through their values together, first with first.
    """
    axes: dict[str, list[str]] = {}
    for override in overrides:
        axes[override.get_key_element()] = _values(override)
    groups = _groups(together, axes)
    leaders = {group[0]: group for group in groups}
    followers = {key for group in groups for key in group[1:]}
    product = itertools.product(
        *(list(zip(*(axes[k] for k in leaders.get(key, [key])), strict=True)) for key in axes if key not in followers)
    )
    return [list(itertools.chain(*parts)) for parts in product]


def _values(override: Override) -> list[str]:
    try:
        found = [parts[0] for parts in BasicSweeper.split_arguments([override], max_batch_size=None)[0]]
    except HydraException as error:
        raise ConfigError(f"{override.input_line}: {error}") from None
    if not found:
        raise ConfigError(f"{override.input_line}: stands for no value at all")
    return found


def _groups(together: Any, axes: dict[str, list[str]]) -> list[list[str]]:
    """`zip` as a list of groups, checked."""
    if not isinstance(together, list):
        raise ConfigError(f"zip={together}: {_ZIP}")
    nested = bool(together) and all(isinstance(group, list) for group in together)
    groups = together if nested else [together] if together else []
    swept = sorted(key for key, values in axes.items() if len(values) > 1)
    seen: set[str] = set()
    for group in groups:
        if len(group) < 2 or not all(isinstance(key, str) for key in group):
            raise ConfigError(f"zip={together}: {_ZIP}")
        for key in group:
            if key not in swept:
                raise ConfigError(f"zip={together}: {key} isn't swept; {nearest(key, swept)}")
            if key in seen:
                raise ConfigError(f"zip={together}: {key} comes twice")
            seen.add(key)
        counts = {key: len(axes[key]) for key in group}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{key} has {count}" for key, count in counts.items())
            raise ConfigError(f"zip={together}: {said}: keys that go together have equally many values")
    return groups


def without(found: list[Composed], patterns: Any) -> list[Composed]:
    """The runs that no condition of `exclude` meets.

    A condition is `key=value` words, all of which must hold; a value may have the wildcards of file names. A key is a
    group, the seed, or any other key of a run (`recipe.train_samples`).
    """
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise ConfigError(f"exclude={patterns}: {_EXCLUDE}")
    conditions = [_condition(pattern) for pattern in patterns]
    if not conditions:
        return found
    kept = []
    for config, words in found:
        facts = _facts(config, words)
        if not any(_holds(condition, facts) for condition in conditions):
            kept.append((config, words))
    if not kept:
        raise ConfigError(f"exclude={patterns}: takes out every run of this command line")
    return kept


def _condition(pattern: str) -> dict[str, str]:
    words = [word.partition("=") for word in pattern.split()]
    if not words or any(not separator or not key for key, separator, _ in words):
        raise ConfigError(f"exclude: {pattern!r} is no condition; {_EXCLUDE}")
    return {key: value for key, _, value in words}


def _holds(condition: dict[str, str], facts: dict[str, str]) -> bool:
    for key in condition:
        if key not in facts:
            raise ConfigError(f"exclude: {key}: no run has such a key; {nearest(key, sorted(facts))}")
    return all(fnmatch.fnmatchcase(facts[key], value) for key, value in condition.items())


def _facts(config: RunConfig, words: Sequence[str]) -> dict[str, str]:
    """Every key of a run with its value, as the command line would write it."""
    written = dict(word.lstrip("+~").partition("=")[::2] for word in words)
    names = {part: getattr(config, part).name for part in ("model", "method", "dataset", "hardware")}
    return {**_flat(dataclasses.asdict(config)), **written, **names, "seed": str(config.seed)}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, part in value.items():
        if isinstance(part, dict):
            found |= _flat(part, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = "null" if part is None else str(part)
    return found
