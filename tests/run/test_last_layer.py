"""A run computes its last layer at one position where head and method allow it, while it trains and when it is scored
and timed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from peftbench.models import layers, one_position
from peftbench.results.store import ResultStore
from peftbench.run import run, speed
from peftbench.run.context import RunContext
from peftbench.run.prepared import PreparedRun
from tests.helpers import on_ranks
from tests.helpers.on_ranks import Watch


def _context(prepared: PreparedRun) -> RunContext:
    places = ResultStore(prepared.config.results_dir).places(prepared.config, prepared.key)
    return RunContext(prepared, places, [], lambda event: None)


@pytest.mark.parametrize(("method", "narrow"), [("lora", True), ("full", True), ("unipelt", False), ("prompt", False)])
def test_the_method_decides(cell: Callable[..., PreparedRun], monkeypatch, method: str, narrow: bool) -> None:
    context = _context(cell(f"method={method}"))
    tuner, data = run.set_up(context)
    assert one_position.installed(tuner.model) == narrow
    timed: list[bool] = []

    def measure(tuner: Any, base: torch.nn.Module, *_: Any, **__: Any) -> Any:
        timed.append(one_position.installed(base))
        return {}, []

    monkeypatch.setattr(speed, "measure", measure)
    trainer: Any = type("Trainer", (), {"precision_plugin": type("Plugin", (), {"forward_context": None})})
    run.measure_speed(context, tuner, data, trainer)
    assert timed == [narrow], "the base is computed otherwise than the trained model"


def test_label_words_need_all_positions(cell: Callable[..., PreparedRun]) -> None:
    tuner, _ = run.set_up(_context(cell("method=lora", "formulation=verbaliser")))
    assert not one_position.installed(tuner.model)


def test_what_is_merged_is_narrow_too(cell: Callable[..., PreparedRun]) -> None:
    tuner, _ = run.set_up(_context(cell("method=lora")))
    merged = tuner.method.merge(tuner.model)
    assert merged is not None
    assert one_position.installed(merged)


def test_a_shrinking_model_stays_narrow(at: Callable[..., PreparedRun]) -> None:
    shrinking = ["method=progressive_shrinking", "method.args.keep=0.5", "method.args.start=0.2", "method.args.end=0.5"]
    followed = on_ranks.follow(at("shrinking", *shrinking), Watch(None))
    (stack,) = layers.stacks(followed.tuner.model).values()
    assert len(stack) == 1
    assert one_position.installed(followed.tuner.model)


@on_ranks.without_dropout()
def test_training_so_is_training_whole(at: Callable[..., PreparedRun], monkeypatch) -> None:
    """Without dropout, whose draws differ."""
    watches = [Watch(None), Watch(None)]
    narrow = on_ranks.follow(at("narrow", "method=lora"), watches[0])
    monkeypatch.setattr(one_position, "install", lambda model: False)
    whole = on_ranks.follow(at("whole", "method=lora"), watches[1])
    assert one_position.installed(narrow.tuner.model)
    assert not one_position.installed(whole.tuner.model)
    assert list(watches[0].losses.values()) == pytest.approx(list(watches[1].losses.values()), rel=1e-5)
