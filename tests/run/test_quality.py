"""A rate says how much of the processor it had, and leaves out what a busy machine did to it where it can."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peftbench.results import quality
from peftbench.results.records import RunRecord
from peftbench.run import shares
from peftbench.run.training import meter
from peftbench.run.training.meter import Meter
from peftbench.system import load
from peftbench.system.load import CpuCounters
from tests.helpers.boards import made


class Machine:
    """A machine of two cores with a clock of its own, on which a run of two threads trains."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.own_s, self.busy_s = 100.0, 7.0, 50.0
        self.counts = True
        monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=lambda: self.now))
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        self.meter = Meter(self.look)
        self.tuner = SimpleNamespace(total_steps=0)

    def look(self) -> CpuCounters:
        return CpuCounters(self.now, self.own_s, self.busy_s if self.counts else None, 2)

    def pass_time(self, seconds: float, *, had: float) -> None:
        """Both cores work all the time, in a share of it for the run."""
        self.now, self.own_s, self.busy_s = (
            self.now + seconds,
            self.own_s + 2 * seconds * had,
            self.busy_s + 2 * seconds,
        )

    def train(self, steps: list[float], each_s: float = 0.5, pause: int | None = None) -> dict[str, Any]:
        """Steps of 8 examples that take as much longer as they have less of the processor; the figures.

        Args:
            steps: what each one has.
            pause: after so many steps of these an evaluation, of a minute.
        """
        self.tuner.total_steps = len(steps)
        self.meter.on_train_start(None, self.tuner)  # type: ignore[arg-type]
        for step, had in enumerate(steps, 1):
            self.pass_time(each_s / had, had=had)
            batch = {"labels": torch.zeros(8), "attention_mask": torch.ones(8, 10)}
            self.meter.on_train_batch_end(SimpleNamespace(global_step=step), self.tuner, None, batch, 0)  # type: ignore[arg-type]
            if step == pause:
                self.meter.on_validation_start(None, None)  # type: ignore[arg-type]
                self.pass_time(60, had=0.1)
                self.meter.on_validation_end(None, None)  # type: ignore[arg-type]
        return self.meter.figures()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_a_quiet_machine(machine: Machine) -> None:
    """What the warm-up and an evaluation had doesn't count."""
    figures = machine.train([0.2] * 3 + [1.0] * 10, pause=6)
    assert figures["train_samples_per_s"] == pytest.approx(16)
    assert figures["train_tokens_per_s"] == pytest.approx(160)
    assert figures["evaluation_during_training_s"] == pytest.approx(60)
    shares = [figures[f"train_{name}_fraction"] for name in ("own_cpu", "others_cpu", "cores")]
    assert shares == pytest.approx([1, 0, 1])
    assert figures["train_quiet_windows"] is None


def test_after_an_evaluation_it_goes_on_looking(machine: Machine) -> None:
    figures = machine.train([1.0] * 6 + [0.5] * 8, pause=6)
    assert figures["train_cores_fraction"] == pytest.approx((1.5 + 8 * 0.5) / 9.5)


def test_a_busy_machine_is_told(machine: Machine) -> None:
    figures = machine.train([1.0] * 3 + [0.35] * 10)
    assert figures["train_samples_per_s"] == pytest.approx(16 * 0.35)
    shares = [figures[f"train_{name}_fraction"] for name in ("own_cpu", "others_cpu", "cores")]
    assert shares == pytest.approx([0.35, 0.65, 0.35])
    assert figures["train_quiet_windows"] is None


def test_of_a_machine_that_was_busy_for_a_while_the_rates_are_the_quiet_ones(machine: Machine) -> None:
    figures = machine.train([1.0] * 3 + [1.0] * 8 + [0.25] * 20)
    assert figures["train_quiet_windows"] == 4
    assert figures["train_samples_per_s"] == pytest.approx(16)
    assert figures["train_cores_fraction"] == pytest.approx((4 + 40 * 0.25) / 44)
    assert figures["train_time_s"] == pytest.approx(5.5 + 40)


def test_few_quiet_windows_are_not_enough(machine: Machine) -> None:
    figures = machine.train([1.0] * 3 + [1.0] * 4 + [0.25] * 20)
    assert figures["train_quiet_windows"] is None
    assert figures["train_samples_per_s"] == pytest.approx(8 * 24 / 42)


def test_without_counters_a_rate_is_as_it_was(machine: Machine) -> None:
    machine.counts = False
    figures = machine.train([1.0] * 3 + [1.0] * 8 + [0.25] * 20)
    assert figures["train_samples_per_s"] == pytest.approx(8 * 28 / 44)
    assert [figures[f"train_{name}_fraction"] for name in ("others_cpu", "cores")] == [None, None]
    assert figures["train_own_cpu_fraction"] == pytest.approx((4 + 40 * 0.25) / 44)


def test_a_run_that_goes_on_keeps_its_windows(machine: Machine) -> None:
    machine.train([1.0] * 3 + [1.0] * 8)
    state = machine.meter.state_dict()
    machine.meter = Meter(machine.look)
    machine.meter.load_state_dict(state)
    machine.pass_time(1000, had=0)  # Nobody trained.
    figures = machine.train([0.25] * 20)
    assert figures["train_quiet_windows"] == 4
    assert figures["train_cores_fraction"] == pytest.approx((4 + 40 * 0.25) / 44)


def test_a_run_of_a_few_steps_has_none(machine: Machine) -> None:
    figures = machine.train([1.0] * 3)
    assert {figures[name] for name in figures if name.endswith(("fraction", "per_s"))} == {None}


def record(**efficiency: float | None) -> RunRecord:
    return made(0.5, efficiency=efficiency)


def test_what_a_busy_machine_measured_is_named() -> None:
    rates: dict[str, float | None] = {
        "train_time_s": 9,
        "train_samples_per_s": 1,
        "peak_memory_bytes": 5,
        "inference_latency_ms_base": 3,
    }
    assert quality.busy(record(**rates)) == set()
    assert quality.busy(record(**rates, train_cores_fraction=0.95, inference_cores_fraction=None)) == set()
    assert quality.busy(record(**rates, train_cores_fraction=0.35)) == {"train_time_s", "train_samples_per_s"}
    quiet = record(**rates, train_cores_fraction=0.35, train_quiet_windows=4, inference_cores_fraction=1.0)
    assert quality.busy(quiet) == {"train_time_s"}
    assert quality.busy(record(**rates, inference_cores_fraction=0.8)) == {"inference_latency_ms_base"}
    assert quality.busy(made(None, status="error", efficiency=None)) == set()


def test_each_model_has_its_own_share(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(own=0.0, wall=0.0)
    monkeypatch.setattr(
        shares, "time", SimpleNamespace(process_time=lambda: clock.own, perf_counter=lambda: clock.wall)
    )
    monkeypatch.setattr(load, "counters", lambda: CpuCounters(clock.wall, clock.own, 2 * clock.wall, 2))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    models: dict[str, torch.nn.Module] = {"": torch.nn.Identity(), "_base": torch.nn.Identity()}
    measured = shares.Shares(models)
    for own, name in ((1.0, ""), (0.5, "_base"), (1.0, "")):
        with measured.of(models[name]):
            clock.own, clock.wall = clock.own + own, clock.wall + 1
    figures = measured.figures()
    assert figures["inference_own_cpu_fraction"] == 0.5
    assert figures["inference_own_cpu_base_fraction"] == 0.25
    assert figures["inference_own_cpu_merged_fraction"] is None
    assert figures["inference_cores_fraction"] == pytest.approx(1 - 3.5 / 6)
