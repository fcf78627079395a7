"""The weights that are scored are those of the step that the recipe's rule chooses."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from peftbench.results.store import ResultStore
from peftbench.run import evaluation
from peftbench.run.context import RunContext
from peftbench.run.prepared import PreparedRun
from peftbench.run.run import run
from peftbench.run.training.selection import SelectBest
from tests.helpers.composed import trained
from tests.helpers.runs import NOT_HERE

# A rate far too high, so that the score goes up and down and the last step isn't the best.
WILD = ["method=full", "method.lr=0.05", "recipe.schedule=constant", "recipe.eval_steps=2", "recipe.max_steps=24"]


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


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two batches' answers are the same, bit for bit."""
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


@pytest.fixture
def asked_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The slices whose answers were known, each after it was seen that the model answers them so again."""
    seen: list[str] = []
    evaluate = evaluation.evaluate

    def twice(trainer, tuner, data, *more):
        metrics, predictions = evaluate(trainer, tuner, data, *more)
        known, tuner.selected_answers = tuner.selected_answers, None
        if known is not None:
            name = next(name for name, part in data.slices.items() if part is data.validated)
            assert predictions[name] is known
            again = evaluation.predict(trainer, tuner, data.evaluation(name))
            assert len(again) == len(known) > 1
            assert all(map(same, known, again))
            seen.append(name)
        return metrics, predictions

    monkeypatch.setattr("peftbench.run.run.evaluate", twice)
    return seen


def selecting() -> list[Any]:
    """Every method; in the default run some that change more than weights while they train."""
    shown = ("lora", "full", "adalora", "sam_selection", "prefix", "linear_probe", "bitfit")
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [pytest.param(name, marks=[] if name in shown else rest) for name in trained() if name not in NOT_HERE]


@pytest.mark.parametrize("method", selecting())
def test_what_was_selected_is_not_asked_again(asked_again: list[str], train, fitting, method: str) -> None:
    quick = ["recipe.max_steps=6", "recipe.eval_steps=2", "hardware.eval_batch_size=3", "measure=false"]
    train(*fitting(method), *quick)
    assert asked_again == ["selection"]


@pytest.mark.parametrize("more", [["recipe.selection=best_on_validation"], ["recipe.eval_steps=5"], WILD])
def test_nor_is_another_split_or_step(asked_again: list[str], train, more: list[str]) -> None:
    train("recipe.max_steps=6", "hardware.eval_batch_size=3", "measure=false", *more)
    assert asked_again == ["validation" if "validation" in more[0] else "selection"]


def test_where_nothing_is_selected_all_is_asked(asked_again: list[str], train) -> None:
    train("recipe.max_steps=6", "recipe.selection=last", "measure=false")
    assert asked_again == []


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
