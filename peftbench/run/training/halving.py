"""Ends a trial that is hopeless, by successive halving (arXiv 1810.05934) as Optuna has it."""

from typing import Any, Literal

import lightning as L
from lightning.pytorch import Callback

from peftbench.config.types import RunConfig
from peftbench.errors import Pruned
from peftbench.results.reading import read
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.training.curve import Curve

#: Selection scores of a trial after so many examples, in order.
Scores = list[tuple[int, float]]


class Halving(Callback):
    """Raises `Pruned` in a trial that is behind the earlier ones of its study. At `examples`, at `factor` times as many
    and so on, a trial goes on if its score is within the best 1/`factor` of those that came so far; the first goes on.

    What is decided depends on the earlier trials' records and on the curve alone, so that a trial that was stopped and
    went on ends where it would have ended.

    Args:
        curve: has the scores so far; before this one among the callbacks.
        maximise: whether a higher score is better.
    """

    def __init__(self, config: RunConfig, curve: Curve, *, maximise: bool) -> None:
        rule = config.tune_halving or {}
        # Of a run with the best values it is only told how they were chosen.
        self._rule = rule if "before" in rule else None
        self._batch, self._curve = config.recipe.batch_size, curve
        self._direction: Literal["maximize", "minimize"] = "maximize" if maximise else "minimize"
        store = ResultStore(config.results_dir)
        self._earlier = [_scores(store, config, key) for key in rule.get("before", [])]

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        # A trial that has had all its steps is told whole.
        if self._rule is not None and trainer.global_step < pl_module.total_steps and self.behind():
            raise Pruned(self.scores())

    def scores(self) -> Scores:
        """The selection scores so far, by the examples seen."""
        return [(step * self._batch, score) for step, score in self._curve.scores()]

    def behind(self) -> bool:
        """True if Optuna's pruner would end this trial after its last score."""
        import optuna

        assert self._rule is not None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        rungs = optuna.pruners.SuccessiveHalvingPruner(
            min_resource=self._rule["examples"], reduction_factor=self._rule["factor"]
        )
        study = optuna.create_study(direction=self._direction, pruner=rungs)
        return [_replayed(study.ask(), scores) for scores in (*self._earlier, self.scores())][-1]

    def outcome(self) -> dict[str, Any] | None:
        """A completed trial's `halving` in its record; None: no trial is ended."""
        return None if self._rule is None else record(self.scores())


def record(scores: Scores) -> dict[str, Any]:
    """`halving` of a record: examples seen, and the scores by examples."""
    return {"examples_seen": scores[-1][0] if scores else 0, "scores": [list(score) for score in scores]}


def _replayed(trial: Any, scores: Scores) -> bool:
    """True if the pruner ends a trial after the last of these scores, all of which it notes."""
    ended = False
    for examples, score in scores:
        trial.report(score, examples)
        ended = trial.should_prune()
    return ended


def _scores(store: ResultStore, config: RunConfig, key: str) -> Scores:
    """The scores of an earlier trial; none where it failed."""
    for file in (store.record_file(config, key), *reversed(store.failures(config, key))):
        trial = read(file)
        if isinstance(trial, RunRecord) and trial.key == key and trial.halving:
            return [(int(examples), float(score)) for examples, score in trial.halving["scores"]]
    return []
