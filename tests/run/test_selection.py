"""The weights that are scored are those of the step that the recipe's rule chooses."""

from collections.abc import Callable

import pytest

from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import PreparedRun
from peftbench.run.run import run
from peftbench.run.training.selection import SelectBest


@pytest.fixture
def run_and_watch(cell: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch):
    """A run, and the (step, score) of every evaluation during it."""
    seen: list[tuple[int, float]] = []
    original = SelectBest.on_validation_end

    def watch(self, trainer, pl_module) -> None:
        seen.append((trainer.global_step, float(trainer.callback_metrics["selection/score"])))
        original(self, trainer, pl_module)

    monkeypatch.setattr(SelectBest, "on_validation_end", watch)

    def go(*more: str):
        found = cell(*more)
        places = ResultStore(found.config.results_dir).places(found.config, found.key)
        return run(RunContext(found, places, [], lambda event: None)), seen

    return go


# A rate far too high, so that the score goes up and down and the last step isn't the best.
WILD = ["method=full", "method.lr=0.05", "recipe.schedule=constant", "recipe.eval_steps=2", "recipe.max_steps=24"]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_earliest_best_step_is_scored(run_and_watch, seed: int) -> None:
    record, seen = run_and_watch(*WILD, f"seed={seed}")
    assert [step for step, _ in seen] == list(range(2, 25, 2))
    best = max(score for _, score in seen)
    assert record.selected_step == next(step for step, score in seen if score == best)
    assert record.metrics["selection"]["score"] == best


def test_on_validation_the_scored_split_itself_chooses(run_and_watch) -> None:
    record, seen = run_and_watch(*WILD, "recipe.selection=best_on_validation")
    best = max(score for _, score in seen)
    assert record.metrics["validation"]["score"] == best
    assert record.metrics["selection"] is None
    assert any("chosen on validation" in note for note in record.footnotes)


def test_the_end_is_a_candidate_though_no_evaluation_falls_on_it(run_and_watch) -> None:
    record, seen = run_and_watch("method=full", "recipe.eval_steps=4", "recipe.max_steps=6", "method.lr=0.002")
    assert [step for step, _ in seen] == [4]
    if record.metrics["selection"]["score"] > seen[0][1]:
        assert record.selected_step == 6
    else:
        assert (record.selected_step, record.metrics["selection"]["score"]) == seen[0]
    record, seen = run_and_watch("method=full", "recipe.max_steps=5")
    assert record.selected_step == 5


def test_last_is_last(run_and_watch) -> None:
    record, seen = run_and_watch(*WILD, "recipe.selection=last")
    assert seen == []
    assert record.selected_step == 24


def test_an_epoch_is_evaluated_at_its_end(run_and_watch) -> None:
    record, seen = run_and_watch("recipe.epochs=3")
    assert [step for step, _ in seen] == [9, 18, 27]
    assert record.samples == {"train": 72, "examples": 72, "truncated": record.samples["truncated"]}
