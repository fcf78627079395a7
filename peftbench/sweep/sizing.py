"""Methods made equal before the first run (`match=parameters budget=0.2%`): each by the size that its file names."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peftbench.config import sizes
from peftbench.config.types import RunConfig
from peftbench.config.values import as_word
from peftbench.errors import ConfigError, Failed
from peftbench.sweep import terminal
from peftbench.sweep.cells import Cells
from peftbench.system import process


@dataclass(frozen=True)
class Sized:
    """A run with the size that was chosen for it.

    Attributes:
        values: of the keys within its method that were set.
        weights: what it then has of what is compared; `base`: the weights of its model.
        wanted: the budget in weights.
        refused: why its weights can't be counted; None: they were.
    """

    config: RunConfig
    values: dict[str, float]
    weights: int = 0
    base: int = 0
    wanted: float = 0.0
    refused: str | None = None

    @property
    def off(self) -> float:
        """The distance from the budget, as a share of that."""
        return self.weights / self.wanted - 1

    @property
    def reason(self) -> str | None:
        """The reason why it is left out; None: it isn't."""
        if self.config.match is None:
            return None
        name = f"method={self.config.method.name} on model={self.config.model.name}"
        if self.refused is not None:
            return self.refused if self.refused.startswith("method=") else f"{name}: {self.refused}"
        if abs(self.off) <= float(self.config.tolerance.removesuffix("%")) / 100:
            return None
        nearest = f"{_written(self.values)} is the nearest" if self.values else "it has no size to set"
        return f"{name}: {self.weights:,} weights, {self.off:+.0%} of budget={self.config.budget}; {nearest}"

    @property
    def words(self) -> list[str]:
        """The words that the run's command line gets besides."""
        return [f"method.{key}={as_word(value)}" for key, value in self.values.items()]


def match(composed: Cells, *, quiet: bool = False) -> tuple[Cells, list[str]]:
    """The runs of a command line at equal budgets, where it has a `match`, and what a single run's command line gets
    besides. Unless `quiet`, the chosen sizes are printed, and in a line each method that can't reach a budget.

    Raises:
        ConfigError: a budget without `match` or the other way round, or no method can reach one.
    """
    for config in composed.cells:
        if (config.match is None) != (config.budget is None):
            alone = f"budget={config.budget}" if config.match is None else f"match={config.match}"
            raise ConfigError(f"{alone}: match=parameters (or size) and budget=0.2% go together")
    if all(config.match is None for config in composed.cells):
        return composed, []
    made = _chosen(composed.cells)
    reasons = list(dict.fromkeys(one.reason for one in made if one.reason is not None))
    fitting = [index for index, one in enumerate(made) if one.reason is None]
    if not fitting:
        raise ConfigError(f"match={made[0].config.match}: no run of this command line is left; {reasons[0]}")
    if not quiet:
        show([one for one in made if one.reason is None and one.config.match is not None], reasons)
    words = [made[index].words for index in fitting]
    overrides = (
        [[*composed.overrides[i], *w] for i, w in zip(fitting, words, strict=True)] if composed.overrides else []
    )
    cells = [sizes.chosen(made[index].config, made[index].values) for index in fitting]
    return replace(composed, cells=cells, overrides=overrides if composed.overrides else []), words[0]


def show(made: Sequence[Sized], reasons: Sequence[str]) -> None:
    """Print the chosen sizes, each once, and why methods were left out."""
    for line in dict.fromkeys(_line(one) for one in sorted(made, key=_place)):
        terminal.console.print(line, markup=False, highlight=False)
    for reason in reasons:
        terminal.console.print(f"left out: {reason}", markup=False, highlight=False)


def _place(one: Sized) -> tuple[str, float]:
    """The place of a size in the order: by model, then by budget."""
    return one.config.model.name, one.wanted


def _line(one: Sized) -> str:
    size = _written(one.values) or "as it is"
    where = f"{one.config.model.name} {one.config.budget:>6}  {one.config.method.name:<21}"
    return f"{where} {size:<26} {one.weights:>11,} weights, {one.weights / one.base:.3%} ({one.off:+.0%})"


def _written(values: dict[str, float]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value:g}" for key, value in values.items())


def _chosen(cells: Sequence[RunConfig]) -> list[Sized]:
    """Every run with its size; those that differ in seed or budget alone are counted in one go."""
    groups: dict[str, list[RunConfig]] = {}
    for config in cells:
        if config.match is not None:
            groups.setdefault(_alike(config), []).append(config)
    asked = [(members[0], list(dict.fromkeys(c.budget for c in members))) for members in groups.values()]
    with TemporaryDirectory() as folder, terminal.waiting(f"counting the weights of {len(asked)} methods"):
        outcome = process.call("peftbench.run.sizes:choose", asked, log=Path(folder, "sizes.log"))
    if outcome.result is None:
        raise Failed(f"match: counting failed: {outcome.error}")
    counted = dict(zip(groups, outcome.result, strict=True))
    return [Sized(c, {}) if c.match is None else _sized(c, counted[_alike(c)]) for c in cells]


def _alike(config: RunConfig) -> str:
    return repr(replace(config, seed=0, budget=None, changed=[]))


def _sized(config: RunConfig, counted: dict[str, Any]) -> Sized:
    if "refused" in counted:
        return Sized(config, {}, refused=counted["refused"])
    chosen = counted["chosen"][config.budget]
    return Sized(config, chosen["values"], chosen["weights"], counted["base"], chosen["wanted"])
