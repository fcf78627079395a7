"""What a command line will do, shown before it does it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.run.prepared import PreparedRun
from peftbench.sweep import budget, estimates
from peftbench.sweep.estimates import in_words
from peftbench.sweep.launchers import NONE, Launcher
from peftbench.system import escape, load

#: What a run's name says anyway.
_NAMED = ("model", "method", "dataset", "seed", "hardware.threads", "tune", "sweep")
#: Rows shown before a sweep starts; `dry_run=true` shows all.
_ROWS = 20
#: A run is small up to so many seconds; where its time isn't known, up to so many training examples.
SMALL_S, SMALL_EXAMPLES = 300.0, 10_000


@dataclass(frozen=True)
class PlannedRun:
    """A run of the plan: what it is composed from, its name, how long it may take (seconds; None: unknown) and what
    memory (bytes)."""

    cell: PreparedRun
    words: list[str]
    group: str
    estimate_s: float | None
    memory: float | None = None

    @property
    def name(self) -> str:
        return f"{self.group} · seed {self.cell.config.seed}"


@dataclass(frozen=True)
class Plan:
    """Runs to make, how many are recorded, by key the reason of those that can't be made, how many were excluded, and
    the trials that tuning makes at most."""

    todo: list[PlannedRun]
    done: int
    left_out: Mapping[str, str]
    excluded: int
    launcher: Launcher
    trials: int = 0

    def seconds(self) -> float | None:
        """The seconds until the end, as far as the records know."""
        estimates = [run.estimate_s for run in self.todo if run.estimate_s is not None]
        if len(estimates) < len(self.todo):
            return None
        return sum(estimates) / (self.launcher.at_once or 1)


def make(
    cells: Sequence[PreparedRun], words: Sequence[list[str]], memory: Sequence[float | None] = ()
) -> list[PlannedRun]:
    """Runs with names that tell them apart. A run that comes twice is made once.

    Args:
        memory: bytes of each run, where they were estimated.
    """
    varied = _varied(words)
    by_key: dict[str, PlannedRun] = {}
    for cell, overrides, size in zip(cells, words, memory or [None] * len(cells), strict=True):
        config = cell.config
        swept = [word for word in overrides if word.partition("=")[0].lstrip("+~") in varied]
        group = " · ".join([config.method.name, config.model.name, config.dataset.name, *swept])
        by_key.setdefault(cell.key, PlannedRun(cell, overrides, group, None, size))
    return list(by_key.values())


def check_different(cells: Sequence[PreparedRun]) -> None:
    """Raises ConfigError for a sweep over what makes no other run (a results folder): all but one would be lost."""
    first: dict[str, RunConfig] = {}
    for cell in cells:
        one = first.setdefault(cell.key, cell.config)
        differing = [key for key in identity.sinks() if getattr(one, key) != getattr(cell.config, key)]
        if differing:
            raise ConfigError(f"{', '.join(differing)}: runs that differ in nothing else are one run, with one record")


def estimate(runs: Sequence[PlannedRun], *, anywhere: bool = False) -> list[PlannedRun]:
    """The same with their estimates.

    Args:
        anywhere: whether records of other processors say something of them: a cluster's runs aren't made here.
    """
    times = estimates.seconds([run.cell.config for run in runs], anywhere=anywhere)
    sizes = estimates.memory([run.cell.config for run in runs], anywhere=anywhere)
    return [
        replace(run, estimate_s=time, memory=size if run.memory is None else run.memory)
        for run, time, size in zip(runs, times, sizes, strict=True)
    ]


def _varied(words: Sequence[list[str]]) -> set[str]:
    """The keys in which a sweep's runs differ, and that no name tells."""
    values: dict[str, set[str]] = {}
    for overrides in words:
        for word in overrides:
            key, _, value = word.partition("=")
            values.setdefault(key.lstrip("+~"), set()).add(value)
    return {key for key, written in values.items() if len(written) > 1 and key not in _NAMED}


def show(plan: Plan, console: Console, *, every_row: bool) -> None:
    """Print a plan: one row for runs that differ in the seed alone."""
    rows: dict[str, list[PlannedRun]] = {}
    for run in plan.todo:
        rows.setdefault(run.group, []).append(run)
    grid = Table(box=None, pad_edge=False, show_header=False)
    for group, runs in list(rows.items())[: None if every_row else _ROWS]:
        seeds = " ".join(str(run.cell.config.seed) for run in runs)
        each = runs[0].estimate_s
        time = "" if each is None else f"about {in_words(each)}" + (" each" if len(runs) > 1 else "")
        memory = "" if runs[0].memory is None else f"about {budget.in_words(runs[0].memory)}"
        grid.add_row("to do", Text(escape.line(group)), f"seed{'s' * (len(runs) > 1)} {seeds}", time, memory)
    if rows:
        console.print(grid)
    if len(rows) > _ROWS and not every_row:
        console.print(f"and {len(rows) - _ROWS} more (dry_run=true shows all)")
    console.print(Text(headline(plan), "bold"))
    hint = side_by_side(plan)
    if hint is not None:
        console.print(Text(hint))


def side_by_side(plan: Plan) -> str | None:
    """Advice to make several runs at a time, where each is small, one after the other was asked for, and cores idle:
    a small model doesn't make use of many threads. None where there is nothing to advise."""
    configs = [run.cell.config for run in plan.todo]
    cores = len(load.usable_cores())
    idle = cores - round(os.getloadavg()[0])
    apart = plan.launcher.name == NONE.name and all(
        config.hardware.accelerator == "cpu" and config.hardware.devices == 1 and config.hardware.threads is None
        for config in configs
    )
    at_once = min(len(configs), idle)
    if not apart or at_once < 2 or not all(_small(run) for run in plan.todo):
        return None
    threads = cores // at_once
    return (
        f"hydra/launcher=joblib hydra.launcher.n_jobs={at_once} would make {at_once} of these small runs at a time, "
        f"with {threads} thread{'s' * (threads > 1)} each, if memory suffices"
    )


def _small(run: PlannedRun) -> bool:
    """True if a run takes minutes at the most: by its estimate, or else by the examples that it goes through."""
    if run.estimate_s is not None:
        return run.estimate_s <= SMALL_S
    config = run.cell.config
    rows = config.recipe.train_samples or config.dataset.rows.get(config.dataset.train)
    steps, batch = config.recipe.max_steps, config.recipe.batch_size
    examples = steps * batch if steps else None if rows is None else rows * config.recipe.epochs
    return examples is not None and examples <= SMALL_EXAMPLES


def headline(plan: Plan) -> str:
    """A plan in one line."""
    launcher, time = plan.launcher, plan.seconds()
    parts = [f"{len(plan.todo)} to do", f"{plan.done} done"]
    parts += [f"{len(plan.left_out)} not applicable"] if plan.left_out else []
    parts += [f"{plan.excluded} excluded"] if plan.excluded else []
    how = [f"{launcher.at_once} at a time"] if launcher.at_once and launcher.at_once > 1 else []
    how += [f"{launcher.threads} thread{'s' * (launcher.threads > 1)} each"] if launcher.threads else []
    how += [f"each asks for {', '.join(launcher.asked)}"] if launcher.asked else []
    length = f"; about {in_words(time)}" if time is not None and plan.todo else "; time unknown" if plan.todo else ""
    tuning = f"; up to {plan.trials} trial{'s' * (plan.trials > 1)} first" if plan.trials else ""
    divided = f" ({launcher.name}: {', '.join(how)})" if how else ""
    return f"Plan: {', '.join(parts)}{divided}{length}{tuning}"
