"""A training step's cost in forward passes of the plain base."""

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.errors import NotApplicable
from peftbench.results import scored
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run import step_cost
from peftbench.run.training.tuner import FineTuner
from tests.helpers.composed import trained
from tests.helpers.runs import NOT_HERE

Train = Callable[..., RunRecord]
SHORT = ["recipe.max_steps=4", "recipe.eval_samples=16"]


def cost(record: RunRecord) -> Any:
    assert record.efficiency is not None
    return record.efficiency[scored.STEP]


def notes(record: RunRecord) -> list[str]:
    return [note for note in record.footnotes if "training step" in note]


def test_steps_and_forward_passes_take_turns(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base computes the same micro batches as the step, in evaluation mode and without gradients."""
    calls: list[str] = []
    measure, step, clock = step_cost.measure, FineTuner.step, itertools.count()

    def steps(self: FineTuner, *given: Any) -> torch.Tensor:
        calls.append("step")
        return step(self, *given)

    def base(module: torch.nn.Module, given: Any, named: dict[str, Any]) -> None:
        assert (module.training, torch.is_inference_mode_enabled()) == (False, True)
        calls.append(f"base {len(named['input_ids'])}")

    def measured(tuner: FineTuner, model: torch.nn.Module, *given: Any, **named: Any) -> float | None:
        calls.clear()
        model.register_forward_pre_hook(base, with_kwargs=True)
        return measure(tuner, model, *given, **named)

    def seconds(work: Callable[[], Any]) -> float:
        """2 s for the base; for the step 7, 8, ... s, but for those that warm up."""
        work()
        number, of_base = divmod(next(clock), 2)
        return 2.0 if of_base else (1000.0 if number < 1 else number + 6.0)

    monkeypatch.setattr(step_cost, "measure", measured)
    monkeypatch.setattr(step_cost, "_seconds", seconds)
    monkeypatch.setattr(FineTuner, "step", steps)
    record = train(*SHORT, "hardware.micro_batch_size=5", "recipe.train_samples=64")
    assert calls == ["step", "base 5", "base 3"] * 21
    assert cost(record) == pytest.approx((7 + 26) / 2 / 2)
    assert not notes(record)


def test_it_costs_more_than_a_forward_pass(train: Train) -> None:
    assert cost(train(*SHORT)) > 1


def test_what_trains_nothing_has_no_step(train: Train) -> None:
    record = train("method=zero_shot")
    assert (cost(record), notes(record)) == (None, [])


def test_seven_steps_will_do_once_half_of_the_time_has_gone_by(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "_SOON", 0)
    seconds = itertools.count(1)
    monkeypatch.setattr(step_cost, "_seconds", lambda work: (work(), next(seconds))[1])
    record = train(*SHORT, "recipe.train_samples=64")
    assert (cost(record), next(seconds)) == (pytest.approx(9 / 10), 2 * (1 + 7) + 1)
    assert not notes(record)


def test_too_little_time_is_said(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_cost, "_SHARE", 0)
    record = train(*SHORT)
    assert cost(record) is None
    name = "lora: a training step beside the base's forward pass"
    assert notes(record) == [f"{name} wasn't measured (measure_s=10 allowed too few steps)"]


def test_what_goes_wrong_costs_this_figure_alone(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **more: Any) -> None:
        raise TypeError("not once more")

    monkeypatch.setattr(step_cost, "measure", fails)
    record = train(*SHORT)
    assert cost(record) is None
    assert record.efficiency["inference_latency_ms"] > 0  # type: ignore[index,operator]
    assert notes(record) == ["lora: a training step beside the base's forward pass wasn't measured (TypeError)"]


def test_a_run_is_the_same_to_the_bit_whether_it_is_measured_or_not(train: Train, results: Path) -> None:
    def left(measure: str) -> list[Any]:
        record = train(*SHORT, "recipe.eval_steps=2", f"measure={measure}", "overwrite=true")
        assert (cost(record) is None) is (measure == "false")
        (adapter,) = (results / "adapters").rglob("*.safetensors")
        curve = ResultStore(results).curve(record)
        assert curve is not None
        points = [{**point, "seconds": 0} for point in curve]
        return [record.metrics, record.selected_step, hashlib.sha256(adapter.read_bytes()).digest(), points]

    assert left("false") == left("true")


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("method", sorted(trained()))
def test_every_method_has_one(train: Train, fitting: Callable[..., list[str]], method: str) -> None:
    try:
        given = fitting(method)
    except NotApplicable:
        pytest.skip(NOT_HERE[method])
    record = train(*given, *SHORT, "measure_s=400")
    assert notes(record) == []
    assert cost(record) > 0
