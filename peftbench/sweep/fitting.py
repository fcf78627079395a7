"""Runs held against a budget of memory before the first of them starts (`memory=`, `fit=true`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from peftbench.config.identity import micro_batch_size
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.sweep import budget, estimation, terminal
from peftbench.sweep.cells import Cells
from peftbench.sweep.estimation import Options, RunEstimate

_KEY = "hardware.micro_batch_size"


@dataclass(frozen=True)
class Held:
    """Runs within a budget.

    Attributes:
        cells: those that keep within it, in smaller micro batches where that is asked for and needed.
        words: what a single run's command line gets besides.
        memory: bytes of each run's peak; None: it couldn't be estimated, and is made.
        left_out: how many don't fit.
    """

    cells: Cells
    words: list[str]
    memory: list[float | None]
    left_out: int = 0


def hold(composed: Cells) -> Held:
    """The runs of a command line that keep within its `memory`, each that doesn't said in a line.

    Raises:
        ConfigError: a budget without a unit, `fit` without a budget, or no run fits.
    """
    first = composed.cells[0]
    if first.memory is None:
        if first.fit:
            raise ConfigError("fit=true: needs a budget, memory=8GB")
        return Held(composed, [], [None] * len(composed.cells))
    size = budget.bytes_of("memory", first.memory)
    estimates = estimation.make(composed.cells, Options(memory=size, fit=True))
    reasons = [_reason(one, size, fit=first.fit) for one in estimates]
    for reason in dict.fromkeys(reason for reason in reasons if reason is not None):
        terminal.console.print(f"doesn't fit: {reason}", markup=False, highlight=False)
    fits = [index for index, reason in enumerate(reasons) if reason is None]
    if not fits:
        raise ConfigError(f"memory={first.memory}: no run of this command line fits; {reasons[0]}")
    words = [_words(estimates[index], fit=first.fit) for index in fits]
    overrides = [[*composed.overrides[i], *w] for i, w in zip(fits, words, strict=True)] if composed.overrides else []
    cells = [_cut(estimates[index], fit=first.fit) for index in fits]
    memory = _memory([estimates[index] for index in fits], cells)
    held = replace(composed, cells=cells, overrides=overrides)
    return Held(held, words[0], memory, len(reasons) - len(fits))


def _reason(one: RunEstimate, size: int, *, fit: bool) -> str | None:
    """The reason why a run is left out; None: it fits, or nobody can tell."""
    own = micro_batch_size(one.config)
    if one.refused or (one.largest is not None and (fit or one.largest >= own)):
        return None
    name = f"method={one.config.method.name} on model={one.config.model.name}"
    needs = f"{name}: needs about {budget.in_words(one.memory)} with micro batches of {own}"
    if one.largest is not None:
        return f"{needs}; fit=true takes {one.largest}"
    saving = f"; with hardware.gradient_checkpointing=true {one.checkpointed} fit" if one.checkpointed else ""
    return f"{needs}, and one example doesn't fit into {budget.in_words(size)} either{saving}"


def _words(one: RunEstimate, *, fit: bool) -> list[str]:
    """The words that a run's command line gets besides."""
    smaller = fit and one.largest is not None and one.largest < micro_batch_size(one.config)
    return [f"{_KEY}={one.largest}"] if smaller else []


def _cut(one: RunEstimate, *, fit: bool) -> RunConfig:
    if not _words(one, fit=fit):
        return one.config
    return replace(one.config, hardware=replace(one.config.hardware, micro_batch_size=one.largest))


def _memory(estimates: Sequence[RunEstimate], cells: Sequence[RunConfig]) -> list[float | None]:
    """Bytes of each run; of one that is cut smaller unknown but for the budget, which it keeps within."""
    return [
        None if one.refused or micro_batch_size(cell) < micro_batch_size(one.config) else one.memory
        for one, cell in zip(estimates, cells, strict=True)
    ]
