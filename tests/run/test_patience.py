"""Training that ends where the selection split stops getting better."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.errors import ConfigError
from peftbench.results import curves
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.selection import SelectBest
from peftbench.run.verify import problem_with
from tests.helpers import on_ranks
from tests.helpers.on_ranks import Watch

#: A rate far too high, so that the score goes up and down.
WILD = ["method=full", "method.lr=0.05", "recipe.schedule=constant", "recipe.eval_steps=2", "recipe.max_steps=40"]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """(step, score) of every evaluation."""
    seen: list[tuple[int, float]] = []
    original = SelectBest.offer

    def watch(self: SelectBest, score: float, step: int, *answers: Any) -> bool:
        seen.append((step, score))
        return original(self, score, step, *answers)

    monkeypatch.setattr(SelectBest, "offer", watch)
    return seen


@pytest.mark.parametrize("patience", [1, 3])
def test_it_ends_after_so_many_evaluations_without_a_better_one(train: Callable, scores: list, patience: int) -> None:
    whole = train(*WILD)
    all_scores = list(scores)
    scores.clear()
    record = train(*WILD, f"recipe.patience={patience}")
    assert record.key != whole.key
    best, waited, end = None, 0, 40
    for step, score in all_scores:
        best, waited = (score, 0) if best is None or score > best else (best, waited + 1)
        if waited == patience:
            end = step
            break
    assert end < 40
    assert scores == [(step, score) for step, score in all_scores if step <= end]
    assert record.selection["last_step"] == end
    assert record.selected_step == next(step for step, score in scores if score == best)
    assert record.metrics["selection"]["score"] == best


def test_the_curve_ends_there_too(train: Callable, cell: Callable) -> None:
    words = [*WILD, "recipe.patience=2"]
    record, prepared = train(*words), cell(*words)
    file = ResultStore(prepared.config.results_dir).places(prepared.config, prepared.key).curve
    points = curves.read(file)
    assert points[-1]["step"] == record.selection["last_step"] < 40


def test_an_evaluation_that_is_better_is_waited_for_anew() -> None:
    select = SelectBest(Path("nowhere"), maximise=False, patience=2)
    waited = []
    for step, score in enumerate([3.0, 4.0, 2.0, 2.0, 2.5]):
        select.offer(score, step)
        waited.append(select.waited)
    assert waited == [0, 1, 0, 1, 2]


def test_a_run_that_is_stopped_meanwhile_ends_at_the_same_step_and_bits(at: Callable[..., PreparedRun]) -> None:
    words = [*WILD, "recipe.patience=2", "recipe.train_samples=null"]
    ended = {}
    for folder, stops in (("whole", [None]), ("cut", [3, 5, None])):
        for step in stops:
            watch = Watch(step)
            followed = on_ranks.follow(at(folder, *words), watch)
            assert bool(followed.said) is (step is not None)
        again = on_ranks.follow(at(folder, *words), Watch(None))  # As one that was killed before its record.
        for name, result in (("trained", followed), ("again", again)):
            weights = {key: value.detach().clone() for key, value in result.tuner.model.named_parameters()}
            ended[folder, name] = (result.trained.selected, result.trained.selection, weights)
    selected, selection, weights = ended["whole", "trained"]
    assert selection["last_step"] < 40
    for other in ended.values():
        assert other[:2] == (selected, selection)
        assert all(torch.equal(weights[name], tensor) for name, tensor in other[2].items())


@pytest.mark.parametrize("words", [["recipe.selection=last", "recipe.epochs=3"], ["recipe.epochs=1"]])
def test_where_nothing_is_evaluated_in_training_it_is_refused(cell: Callable, words: list[str]) -> None:
    prepared = cell("recipe.patience=2", *words)
    problem = problem_with(prepared.config, prepared.checkpoint)
    assert problem is not None
    assert problem[0].startswith("recipe.patience=2: nothing is evaluated in training")
    assert problem[1] is False
    with pytest.raises(ConfigError, match="recipe.patience=0: allowed is a number at least 1"):
        cell("recipe.patience=0")
