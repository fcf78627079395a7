"""Which runs the swept values of a command line mean: all of their combinations, or fewer."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from peftbench.config import hydra_compat
from peftbench.config.types import RunConfig
from peftbench.config.values import as_word
from peftbench.errors import ConfigError, nearest
from peftbench.sweep.wanted import WantedValue

#: A composed run, and the overrides that it is composed from.
ComposedRun = tuple[RunConfig, list[str]]

_ZIP = "allowed is a list of two or more swept keys that go through their values together, or a list of such lists"
_EXCLUDE = 'allowed is a list of conditions such as "method=full model=roberta_*"'
#: A word of a condition: spaces within quotes, brackets or braces don't end it.
_WORD = re.compile(r"""(?:"[^"]*"|'[^']*'|\[(?:\[[^][]*\]|[^][])*\]|\{[^{}]*\}|\S)+""")


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
    """An override once for each of its swept values, or as it is."""
    try:
        values = hydra_compat.values(override)
    except HydraException as error:
        raise ConfigError(f"{override.input_line}: {error}") from None
    if not values:
        raise ConfigError(f"{override.input_line}: stands for no value at all")
    return values


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
            lengths = ", ".join(f"{key} has {count}" for key, count in counts.items())
            raise ConfigError(f"zip={together}: {lengths}: keys that go together have equally many values")
    return groups


def without(
    runs: list[ComposedRun], patterns: Any, *, groups: Sequence[str] = (), narrowed: bool = False
) -> list[ComposedRun]:
    """The runs that no condition of `exclude` meets.

    A condition is `key=value` words, all of which must hold; a value of text may have the wildcards of file names. A
    key is a group, the seed, or any other key of a run (`recipe.train_samples`). Values are compared, not spellings.

    Args:
        groups: the config groups, whose chosen files are keys too.
        narrowed: the conditions are a prepared sweep's, of which the command line runs a part: one may meet no run.

    Raises:
        ConfigError: a condition can't be read, meets no run, or all of them together meet every run.
    """
    if not isinstance(patterns, list) or not all(isinstance(p, str) for p in patterns):
        raise ConfigError(f"exclude={patterns}: {_EXCLUDE}")
    conditions = {pattern: _condition(pattern) for pattern in patterns}
    if not conditions:
        return runs
    facts = [_facts(config, words, groups) for config, words in runs]
    for pattern, condition in conditions.items():
        _check_keys(condition, facts)
        if not narrowed and not any(_holds(condition, run) for run in facts):
            raise ConfigError(f"exclude: {pattern!r} meets no run of this command line; {_values_of(condition, facts)}")
    remaining = [
        composed
        for composed, run in zip(runs, facts, strict=True)
        if not any(_holds(condition, run) for condition in conditions.values())
    ]
    if not remaining:
        raise ConfigError(f"exclude={patterns}: takes out every run of this command line")
    return remaining


def _condition(pattern: str) -> dict[str, WantedValue]:
    words = [word.partition("=") for word in _WORD.findall(pattern)]
    if not words or any(not separator or not key for key, separator, _ in words):
        raise ConfigError(f"exclude: {pattern!r} is no condition; {_EXCLUDE}")
    return {key: WantedValue.read(value) for key, _, value in words}


def _check_keys(condition: dict[str, WantedValue], facts: Sequence[dict[str, Any]]) -> None:
    """Raises ConfigError for a key that no run has; that only some have it is usual (an adapter's arguments)."""
    for key in condition:
        if not any(key in run for run in facts):
            raise ConfigError(f"exclude: {key}: no run has such a key; {nearest(key, sorted(set().union(*facts)))}")


def _holds(condition: dict[str, WantedValue], run: dict[str, Any]) -> bool:
    return all(key in run and value.meets(run[key]) for key, value in condition.items())


def _values_of(condition: dict[str, WantedValue], facts: Sequence[dict[str, Any]]) -> str:
    """The values that the runs have for a condition's keys."""
    return "; ".join(
        f"{key} is {', '.join(dict.fromkeys(as_word(run[key]) for run in facts if key in run))}" for key in condition
    )


def _facts(config: RunConfig, words: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """Every key of a run with its value: of its configuration, and the chosen files."""
    written = (word.lstrip("+~").partition("=") for word in words)
    values = dataclasses.asdict(config)
    keys = _flat(values)
    rest = {key: WantedValue.read(value).value for key, _, value in written if key in groups or key not in keys}
    names = {part: getattr(config, part).name for part in ("model", "method", "dataset", "hardware")}
    return {**keys, **rest, **names}


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested keys by their dotted names."""
    flat: dict[str, Any] = {}
    for name, part in value.items():
        if prefix or not isinstance(part, dict):  # At the top a section's name stands for its chosen file.
            flat[f"{prefix}{name}"] = part
        if isinstance(part, dict):
            flat |= _flat(part, f"{prefix}{name}.")
    return flat
