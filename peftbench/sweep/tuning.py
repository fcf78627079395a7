"""Equal tuning budgets: every method gets the same number of trials within its own `search` and `tune_space`, judged
on the selection split, which is carved from train; then the seeds run with the best.

Nothing of a study is stored but its trials' records: asked again in the same order and told the same scores, the
sampler proposes the same trials, so that a stopped study goes on where it was, whichever launcher it has.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from peftbench.config import types, wording
from peftbench.config.values import as_word
from peftbench.errors import ConfigError
from peftbench.results.reading import home, key_of, read
from peftbench.results.records import RunRecord
from peftbench.results.store import TRIALS, ResultStore
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.sweep import search_space
from peftbench.sweep.cells import plan as plan_cells
from peftbench.sweep.plan import PlannedRun


@dataclass
class Study:
    """The trials of runs that differ in the seed alone.

    Attributes:
        runs: those runs, as they were composed.
        tried: what was set, and the selection score (None: the trial failed), by trial.
    """

    runs: list[PlannedRun]
    config_dirs: Sequence[Path]
    tried: list[dict[str, Any]] = field(default_factory=list)
    _optuna: Any = None
    _asked: PlannedRun | None = None
    _finals: list[PlannedRun] | None = None

    @property
    def config(self) -> types.RunConfig:
        return self.runs[0].cell.config

    @property
    def budget(self) -> int:
        assert self.config.tune is not None
        return self.config.tune

    @property
    def left(self) -> int:
        """The number of trials that are to be made."""
        return self.budget - len(self.tried)

    def go_on(self) -> None:
        """Take the trials that are recorded, up to the first that isn't."""
        while self.left and not self.config.overwrite and recorded(self.ask()):
            self.tell(self.ask())

    def to_make(self) -> list[PlannedRun]:
        """The runs that aren't recorded, as they were composed while their trials aren't complete."""
        runs = self.runs if self.left else self.finals()
        return [run for run in runs if run.cell.config.overwrite or not recorded(run)]

    def ask(self) -> PlannedRun:
        """The next trial, until its result is told. The first one has the values of the method's file, if they lie
        within the search."""
        if self._asked is None:
            self._asked = self._next()
        return self._asked

    def _next(self) -> PlannedRun:
        import optuna

        if self._optuna is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            sampler = optuna.samplers.TPESampler(seed=self.config.seed)
            down = set(self.config.dataset.metrics.values()) == {"min"}
            self._optuna = optuna.create_study(sampler=sampler, direction="minimize" if down else "maximize")
            usual = search_space.usual(self.config)
            if usual is not None:
                self._optuna.enqueue_trial(usual)
        self._trial = self._optuna.ask()
        space = search_space.of(self.config)
        values = {key: search_space.suggest(self._trial, key, allowed) for key, allowed in space.items()}
        self._values = values
        settings = [
            f"results_dir={wording.quoted(f'{self.config.results_dir}/{TRIALS}')}",
            "save_adapters=false",
            "measure=false",
            "tune=null",
            "tune_space=null",
            "tune_halving=null",  # A mapping is set anew: Hydra adds no key to the one of the command line.
            f"tune_halving={self._halving()}",
        ]
        # What a model forgets, or does beyond its score, says nothing of which values are best, and takes long to ask.
        beside = ("forgetting", "evaluation")
        words = [word for word in self.runs[0].words if not word.lstrip("+~").startswith(beside)]
        run = replace(self.runs[0], words=[*words, *(f"{group}=none" for group in beside)])
        return self._compose(values, settings, run, f"trial {len(self.tried) + 1}")

    def tell(self, run: PlannedRun) -> None:
        """Take the result of the trial that was asked for last."""
        import optuna

        score, ended = selection_score(run.cell), pruned(run.cell)
        trial = {"values": self._values, "score": score, "key": run.cell.key}
        state = optuna.trial.TrialState.FAIL if score is None else None
        if self.config.tune_halving is not None:
            record = _record(run.cell) or ended
            trial |= {"pruned": score is None and ended is not None, "examples_seen": _examples(record)}
        if score is None and ended is not None:
            state = optuna.trial.TrialState.PRUNED
            for examples, value in (ended.halving or {}).get("scores", []):
                self._trial.report(value, examples)
        self.tried.append(trial)
        self._asked = None
        self._optuna.tell(self._trial, score, state=state)

    def best(self) -> dict[str, Any] | None:
        """The best trial, the earliest of equals; None: all failed."""
        down = set(self.config.dataset.metrics.values()) == {"min"}
        good = [trial for trial in self.tried if trial["score"] is not None]
        return (min if down else max)(good, key=lambda trial: trial["score"]) if good else None

    def finals(self) -> list[PlannedRun]:
        """The runs with the best values; none if all trials failed."""
        if self._finals is None:
            best = self.best()
            self._finals = [self._compose(best["values"], [], run, "") for run in self.runs] if best else []
        return self._finals

    def keep(self) -> None:
        """Put what was tried where the records of the runs with the best values take it from."""
        best = self.best()
        if best is None:
            return
        summary = {
            "trials": self.budget,
            "failed": sum(trial["score"] is None and not trial.get("pruned") for trial in self.tried),
            **self._ended_early(),
            "seed": self.config.seed,
            "search": search_space.of(self.config),
            "best": best,
            "tried": self.tried,
            "at_edge": search_space.edges(best["values"], search_space.of(self.config)),
        }
        for run in self.finals():
            ResultStore(self.config.results_dir).put_tuning(run.cell.key, summary)

    def _halving(self) -> str:
        """A trial's `tune_halving`: which trials came before it is a part of its key, as its end depends on them."""
        rule = self.config.tune_halving
        if rule is None:
            return "null"
        before = [wording.quoted(trial["key"]) for trial in self.tried]  # A key may look like a number.
        return as_word({**rule, "before": before})

    def _ended_early(self) -> dict[str, int]:
        if self.config.tune_halving is None:
            return {}
        return {
            "pruned": sum(trial["pruned"] for trial in self.tried),
            "examples_seen": sum(trial["examples_seen"] or 0 for trial in self.tried),
        }

    def _compose(self, values: dict[str, Any], settings: list[str], run: PlannedRun, name: str) -> PlannedRun:
        own = self.config.method.search or {}
        chosen = [search_space.word(f"method.{key}" if key in own else key, value) for key, value in values.items()]
        words = [*run.words, *chosen, *settings]
        cell = prepare(plan_cells(words, multirun=False, config_dirs=self.config_dirs).cells[0])
        return PlannedRun(cell, words, " · ".join([run.group, *([name] if name else [])]), run.estimate_s)


def studies(
    runs: Sequence[PlannedRun], config_dirs: Sequence[Path], todo: Collection[str] | None = None
) -> tuple[list[Study], list[PlannedRun]]:
    """The studies that are to be made, and the runs that have nothing to tune, which stay as they are.

    Args:
        todo: keys of the runs that aren't recorded; None: all. A study of which one is to be made has all its runs:
            where the best trial has the file's own values, the others have their keys already, and without them its
            trials would be others.

    Raises:
        ConfigError: the split that trials are judged on isn't carved from train, or Optuna isn't installed.
    """
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(repr(replace(run.cell.config, seed=0, changed=[])), []).append(run)
    tuned, rest = [], []
    for members in groups.values():
        config = members[0].cell.config
        left = [run for run in members if todo is None or run.cell.key in todo]
        if config.tune is None:
            rest += left
        elif left:
            _check(config)
            search_space.check(config, members[0].words, config_dirs)
            tuned.append(Study(members, config_dirs))
            tuned[-1].go_on()
    return tuned, rest


def _check(config: types.RunConfig) -> None:
    if config.recipe.selection != "best_on_selection":
        raise ConfigError(
            f"tune={config.tune}: recipe.selection={config.recipe.selection} carves nothing from train to judge trials "
            "on; allowed is best_on_selection"
        )
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError(f'tune={config.tune}: needs Optuna: pip install "peftbench[tune]"') from None


def rounds(tuned: Sequence[Study]) -> Iterator[list[tuple[Study, PlannedRun]]]:
    """Trials that may run at the same time: one of every study; the caller has to make them before it goes on."""
    while any(study.left for study in tuned):
        asked = [(study, study.ask()) for study in tuned if study.left]
        yield asked
        for study, run in asked:
            study.tell(run)


def recorded(run: PlannedRun) -> bool:
    """True if a run has its record, or is a trial that was ended early."""
    store = ResultStore(run.cell.config.results_dir)
    return store.completed(run.cell.config, run.cell.key) or pruned(run.cell) is not None


def selection_score(cell: PreparedRun) -> float | None:
    """The score of a run on the selection split; None: it isn't completed."""
    record = _record(cell)
    selection = None if record is None else record.metrics.get("selection")
    return None if selection is None else selection.get("score")


def pruned(cell: PreparedRun) -> RunRecord | None:
    """The record of a trial that was ended early; None: it wasn't."""
    if cell.config.tune_halving is None:
        return None
    tries = (read(file) for file in ResultStore(cell.config.results_dir).failures(cell.config, cell.key))
    ended = (record for record in tries if isinstance(record, RunRecord) and record.status == "pruned")
    return next((record for record in ended if key_of(record) == cell.key), None)


def _record(cell: PreparedRun) -> RunRecord | None:
    file = home(ResultStore(cell.config.results_dir).record_file(cell.config, cell.key))
    record = None if file is None else read(file)
    return record if isinstance(record, RunRecord) else None


def _examples(record: RunRecord | None) -> int | None:
    """The examples that a trial saw; None: it failed."""
    return None if record is None else (record.halving or {}).get("examples_seen")
