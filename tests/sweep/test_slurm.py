"""What is asked of Slurm and learned from it. tests/endurance/slurm.py tries the whole on a real one."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf

from peftbench.config import compose
from peftbench.sweep import estimates, launchers, plan, slurm
from peftbench.sweep.launchers import Launcher
from peftbench.system import process
from tests.helpers.runs import TINY
from tests.sweep.test_status import _record

#: The arguments of submitit's launcher that matter here, as its plugin has them.
NODE = {
    "_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "timeout_min": 60,
    **dict.fromkeys(
        ("cpus_per_task", "gpus_per_node", "gpus_per_task", "gres", "mem_gb", "mem_per_cpu", "mem_per_gpu")
    ),
}


def described(words: list[str], **arguments: Any) -> Launcher:
    return launchers.describe(OmegaConf.create({**NODE, **arguments}), [compose.one(words)])


def test_a_job_asks_for_what_its_hardware_says() -> None:
    assert described([]).overrides == ("hydra.launcher.cpus_per_task=1",)
    assert described([]).threads == 1
    assert described(["hardware.threads=3"]).overrides == ("hydra.launcher.cpus_per_task=3",)
    several = described(["hardware=ddp_cpu", "hardware.threads=3", "hardware.workers=1"])
    assert several.overrides == ("hydra.launcher.cpus_per_task=8",)
    gpus = described(["hardware=gpu_ddp"])
    assert gpus.overrides == ("hydra.launcher.cpus_per_task=6", "hydra.launcher.gpus_per_node=2")
    assert gpus.asked == ("6 CPUs", "2 GPUs")


def test_what_the_line_says_of_a_job_stays() -> None:
    own = described(["hardware=gpu"], cpus_per_task=5, gres="gpu:a100:1", mem_per_cpu="2G")
    assert (own.overrides, own.threads, own.unsaid) == ((), 5, ("timeout_min",))


@dataclass(frozen=True)
class Run:
    estimate_s: float | None
    memory: float | None


def test_memory_and_time_are_those_of_the_largest_run() -> None:
    launcher = described([])
    sized = slurm.sized(launcher, [Run(600.0, 5e9), Run(60.0, 10e9)], [])
    assert sized.overrides[1:] == ("hydra.launcher.mem_gb=14", "hydra.launcher.timeout_min=25")
    assert sized.asked == ("1 CPU", "14 GB", "25 min")
    plan_line = plan.headline(plan.Plan([], done=0, left_out={}, excluded=0, launcher=sized))
    assert "each asks for 1 CPU, 14 GB, 25 min" in plan_line
    typed = slurm.sized(launcher, [Run(600.0, 5e9)], ["hydra.launcher.timeout_min=60", "hydra.launcher.mem_gb=2"])
    assert typed.overrides == launcher.overrides


def test_nothing_is_asked_for_by_guess() -> None:
    launcher = described([])
    assert slurm.sized(launcher, [Run(None, 5e9), Run(60.0, None)], []) == launcher
    assert slurm.sized(launcher, [], []) == launcher
    assert slurm.sized(Launcher("joblib", 2), [Run(60.0, 5e9)], []) == Launcher("joblib", 2)


def test_records_of_a_clusters_nodes_count_where_it_is_asked_from(results: Path) -> None:
    from peftbench.results.store import ResultStore

    one = compose.one([*TINY, "recipe.max_steps=10", f"results_dir={results}"])
    record = _record(one, key="a", train_s=100.0, run_s=120.0, rows=80)
    ResultStore(results).put(one, replace(record, environment={"cpu": "a node's"}))
    assert estimates.seconds([one]) == [None]
    assert estimates.seconds([one], anywhere=True) == [120.0]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script on the search path, as a command of Slurm's."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def make(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return make


def test_a_job_starts_again_where_slurm_counts_one_more_start(command: Callable[[str, str], None]) -> None:
    command("scontrol", 'echo "JobId=7 JobState=COMPLETING Requeue=1 Restarts=1 BatchFlag=1"')
    assert slurm.starts_again({"SLURM_JOB_ID": "7"})
    assert not slurm.starts_again({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert not slurm.starts_again({})
    command("scontrol", "exit 1")
    assert not slurm.starts_again({"SLURM_JOB_ID": "7"})


def test_states_are_told_as_submitit_knows_them() -> None:
    listed = "12_0|RUNNING\n12_1|CANCELLED\n12_2|CONFIGURING\n12_3|PENDING\n"
    told = slurm.states(listed, {"12_0", "12_1", "12_2", "12_3", "12_4"})
    assert {job.partition("_")[2]: state["State"] for job, state in told.items()} == {
        "0": "RUNNING",
        "1": "CANCELLED",
        "2": "RUNNING",
        "3": "PENDING",
        "4": "COMPLETED",
    }


class UncompletedJobError(Exception):
    """Stands for submitit's."""


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands in for submitit's class of jobs: its own watcher asks sacct."""

    class Watcher:
        def __init__(self, delay_s: int = 600) -> None:
            self._registered = {"3_0"}

        def _make_command(self) -> list[str]:
            return ["sacct"]

    class Job:
        watcher: Any = Watcher()

        def results(self) -> list[Any]:
            raise UncompletedJobError

    core, own = ModuleType("submitit.core.utils"), ModuleType("submitit.slurm.slurm")
    core.UncompletedJobError, own.SlurmJob = UncompletedJobError, Job  # type: ignore[attr-defined]
    for name, module in {"core.utils": core, "slurm.slurm": own, "core": ModuleType("core")}.items():
        monkeypatch.setitem(sys.modules, f"submitit.{name}", module)
    monkeypatch.setitem(sys.modules, "submitit", ModuleType("submitit"))
    monkeypatch.setitem(sys.modules, "submitit.slurm", ModuleType("submitit.slurm"))
    return Job


@pytest.mark.parametrize(("accounting", "asked"), [("exit 0", "sacct"), ("exit 1", "squeue")])
def test_squeue_is_asked_where_there_is_no_accounting(
    job: Any, command: Callable[[str, str], None], accounting: str, asked: str
) -> None:
    command("sacct", accounting)
    before = job.watcher
    with slurm.watched(described([])):
        assert job.watcher._make_command()[0] == asked
        if asked == "squeue":
            assert job.watcher.read_info(b"3_0|CANCELLED") == {"3_0": {"State": "CANCELLED"}}
    assert job.watcher is before


def test_a_job_without_a_result_keeps_nobody_from_waiting_for_the_others(
    job: Any, command: Callable[[str, str], None]
) -> None:
    command("sacct", "exit 0")
    with slurm.watched(described([])):
        (returned,) = job().results()
        assert returned.status is not JobStatus.FAILED
    with pytest.raises(UncompletedJobError):
        job().results()
    with slurm.watched(Launcher()), pytest.raises(UncompletedJobError):
        job().results()


def test_a_launchers_handler_that_fails_asks_the_run_to_stop() -> None:
    """submitit's does at a time limit after which the job isn't put in the queue again."""

    def fail(number: int, frame: Any) -> None:
        raise UncompletedJobError

    before = signal.signal(signal.SIGUSR2, fail)
    try:
        with process.stoppable(), pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGUSR2)
        with process.stoppable():
            signal.getsignal(signal.SIGTERM)  # Its own again: nothing is left of leaving.
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_requeued_job_leaves_without_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one, the command that waits would take it for the run's."""
    from peftbench.sweep import job as jobs

    monkeypatch.setattr(jobs.terminal, "watched_by_another", lambda: True)
    monkeypatch.setattr(jobs, "slurm", SimpleNamespace(starts_again=lambda: True))
    with pytest.raises(SystemExit), jobs._quietly(None, alone=True):
        raise KeyboardInterrupt
    monkeypatch.setattr(jobs, "slurm", SimpleNamespace(starts_again=lambda: False))
    with jobs._quietly(None, alone=True):
        raise KeyboardInterrupt
