"""What a plan advises."""

import os
from collections.abc import Callable
from dataclasses import replace

import pytest

from peftbench.run.prepared import PreparedRun
from peftbench.sweep import plan
from peftbench.sweep.launchers import Launcher
from peftbench.sweep.plan import Plan, PlannedRun


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of eight cores, of which two are busy."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(os, "getloadavg", lambda: (2.2, 0.0, 0.0))


def planned(cell: Callable[..., PreparedRun], count: int, *words: str, estimate: float | None = None) -> Plan:
    runs = [PlannedRun(cell(f"seed={seed}", *words), [], "lora", estimate) for seed in range(count)]
    return Plan(runs, done=0, left_out={}, excluded=0, launcher=Launcher())


@pytest.mark.usefixtures("eight_cores")
def test_small_runs_on_idle_cores_are_advised_side_by_side(cell: Callable[..., PreparedRun]) -> None:
    few = plan.side_by_side(planned(cell, 3, "hardware.threads=null", "recipe.max_steps=4"))
    assert few is not None
    assert few.startswith("hydra/launcher=joblib hydra.launcher.n_jobs=3 would make 3 of these small runs at a time")
    assert "2 threads each" in few
    many = plan.side_by_side(planned(cell, 9, "hardware.threads=null", estimate=plan.SMALL_S))
    assert many is not None
    assert "n_jobs=6" in many
    assert "1 thread each" in many


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("count", "words", "estimate"),
    [
        (1, ["recipe.max_steps=4"], None),
        (3, ["recipe.max_steps=100000"], None),
        (3, ["recipe.max_steps=4"], plan.SMALL_S + 1),
        (3, ["recipe.max_steps=4", "hardware.threads=4"], None),
        (3, ["recipe.max_steps=4", "hardware=ddp_cpu"], None),
    ],
    ids=["alone", "many examples", "known to be long", "threads chosen", "several devices"],
)
def test_else_nothing_is_advised(
    cell: Callable[..., PreparedRun], count: int, words: list[str], estimate: float | None
) -> None:
    assert plan.side_by_side(planned(cell, count, "hardware.threads=null", *words, estimate=estimate)) is None


@pytest.mark.usefixtures("eight_cores")
def test_nothing_is_advised_with_a_launcher_or_on_a_busy_machine(
    cell: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = planned(cell, 3, "hardware.threads=null", "recipe.max_steps=4")
    assert plan.side_by_side(replace(small, launcher=Launcher("joblib", 2))) is None
    monkeypatch.setattr(os, "getloadavg", lambda: (7.1, 0.0, 0.0))
    assert plan.side_by_side(small) is None
