"""Equal tuning budgets: every method gets the same number of trials within its own `search` and `tune_space`, judged
on the selection split, which is carved from train; then the seeds run with the best.

Nothing of a study is stored but its trials' records: asked again in the same order and told the same scores, the
sampler proposes the same trials, so that a stopped study goes on where it was, whichever launcher it has.
"""

import json
import math
from collections.abc import Iterator, Sequence
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

    @property
    def config(self) -> types.RunConfig:
        return self.runs[0].cell.config

    @property
    def budget(self) -> int:
        assert self.config.tune is not None
        return self.config.tune

    def ask(self) -> PlannedRun:
        """The next trial. The first one has the values of the method's file, if they lie within the search."""
        import optuna

        if self._optuna is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            sampler = optuna.samplers.TPESampler(seed=self.config.seed)
            down = set(self.config.dataset.metrics.values()) == {"min"}
            self._optuna = optuna.create_study(sampler=sampler, direction="minimize" if down else "maximize")
            usual = _usual(self.config)
            if usual is not None:
                self._optuna.enqueue_trial(usual)
        self._trial = self._optuna.ask()
        values = {key: _suggest(self._trial, key, allowed) for key, allowed in _search(self.config).items()}
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
        self._optuna.tell(self._trial, score, state=state)

    def best(self) -> dict[str, Any] | None:
        """The best trial, the earliest of equals; None: all failed."""
        down = set(self.config.dataset.metrics.values()) == {"min"}
        good = [trial for trial in self.tried if trial["score"] is not None]
        return (min if down else max)(good, key=lambda trial: trial["score"]) if good else None

    def finals(self) -> list[PlannedRun]:
        """The runs with the best values; what was tried is put where their records take it from."""
        best = self.best()
        if best is None:
            return []
        runs = [self._compose(best["values"], [], run, "") for run in self.runs]
        summary = {
            "trials": self.budget,
            "failed": sum(trial["score"] is None and not trial.get("pruned") for trial in self.tried),
            **self._ended_early(),
            "seed": self.config.seed,
            "search": _search(self.config),
            "best": best,
            "tried": self.tried,
            "at_edge": _edges(best["values"], _search(self.config)),
        }
        for run in runs:
            ResultStore(self.config.results_dir).put_tuning(run.cell.key, summary)
        return runs

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
        chosen = [_word(f"method.{key}" if key in own else key, value) for key, value in values.items()]
        words = [*run.words, *chosen, *settings]
        cell = prepare(plan_cells(words, multirun=False, config_dirs=self.config_dirs).cells[0])
        return PlannedRun(cell, words, " · ".join([run.group, *([name] if name else [])]), run.estimate_s)


def studies(runs: Sequence[PlannedRun], config_dirs: Sequence[Path]) -> tuple[list[Study], list[PlannedRun]]:
    """The studies that are to be made, and the runs that have nothing to tune, which stay as they are.

    Raises:
        ConfigError: the split that trials are judged on isn't carved from train, or Optuna isn't installed.
    """
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(repr(replace(run.cell.config, seed=0, changed=[])), []).append(run)
    tuned, rest = [], []
    for members in groups.values():
        config = members[0].cell.config
        if config.tune is None:
            rest += members
        else:
            _check(config)
            _check_space(members[0], config_dirs)
            tuned.append(Study(members, config_dirs))
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


#: What trials may differ in, and what of it would have them judged on different examples.
_SEARCHABLE, _JUDGED_ON = ("recipe.", "method.", "model.", "hardware."), ("recipe.selection", "recipe.eval_samples")


def _check_space(run: PlannedRun, config_dirs: Sequence[Path]) -> None:
    """Raises ConfigError for a key or a value of `tune_space` that no trial can have, before the first begins."""
    own = {f"method.{key}" for key in run.cell.config.method.search or {}}
    for key, allowed in (run.cell.config.tune_space or {}).items():
        if not key.startswith(_SEARCHABLE) or key in _JUDGED_ON or key in own:
            why = "the method's own search has it" if key in own else f"allowed are keys of {', '.join(_SEARCHABLE)}"
            raise ConfigError(f"tune_space.{key}: {why}, but for {', '.join(_JUDGED_ON)}")
        values = allowed if isinstance(allowed, list) else []
        if len(set(map(str, values))) < 2 or (_is_range(key) and not _are_ends(values)):
            what = "its lowest and its highest value" if _is_range(key) else "a list of two or more different values"
            raise ConfigError(f"tune_space.{key}={allowed}: allowed is {what}")
        for value in values:
            plan_cells([*run.words, _word(key, value)], multirun=False, config_dirs=config_dirs)


def _are_ends(values: list[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) == 2 and 0 < numbers[0] < numbers[1]


def _word(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"


def rounds(tuned: Sequence[Study]) -> Iterator[list[tuple[Study, PlannedRun]]]:
    """Trials that may run at the same time: one of every study; the caller has to make them before it goes on."""
    for _ in range(max((study.budget for study in tuned), default=0)):
        asked = [(study, study.ask()) for study in tuned if len(study.tried) < study.budget]
        yield asked
        for study, run in asked:
            study.tell(run)


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


def _search(config: types.RunConfig) -> dict[str, Any]:
    """The values that are allowed by key, within the method or (of `tune_space`) of the run."""
    set_by_match = (config.method.size or []) if config.match is not None else []
    own = {key: allowed for key, allowed in (config.method.search or {}).items() if key not in set_by_match}
    return {**own, **(config.tune_space or {})}


def _is_range(key: str) -> bool:
    """A rate is searched between two ends, evenly on a logarithmic scale; anything else among given values."""
    return key.rpartition(".")[2] in ("lr", "head_lr")


#: The share of a range, on its logarithmic scale, that counts as its edge. A trial hardly falls on the end itself, and
#: of a usual range, two decades, a tenth is a factor of 1.6: what lies beyond may be better by as much.
_EDGE = 0.1


def _edges(best: dict[str, Any], search: dict[str, Any]) -> dict[str, str]:
    """The keys of rates whose best value lies at an edge of its range, and which: lower or upper."""
    edges = {}
    for key, allowed in search.items():
        if not _is_range(key):
            continue
        low, high = (math.log(float(end)) for end in allowed)
        place = (math.log(best[key]) - low) / (high - low) if high > low else 0.5
        if not _EDGE < place < 1 - _EDGE:
            edges[key] = "lower" if place <= _EDGE else "upper"
    return edges


def _suggest(trial: Any, key: str, allowed: list[Any]) -> Any:
    if _is_range(key):
        low, high = (float(end) for end in allowed)
        return float(f"{trial.suggest_float(key, low, high, log=True):.3g}")
    return trial.suggest_categorical(key, allowed)


def _usual(config: types.RunConfig) -> dict[str, Any] | None:
    """The method's own values of what is searched, or None where one lies outside."""
    values = {}
    for key, allowed in _search(config).items():
        value: Any = config.method if key in (config.method.search or {}) else config
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
        inside = float(allowed[0]) <= value <= float(allowed[1]) if _is_range(key) else value in allowed
        if not inside:
            return None
        values[key] = value
    return values
