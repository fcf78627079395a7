"""Whatever asks a run to stop, and whomever it asks, the run's state is saved."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
from conftest import wait

from peftbench import isolate, job, launchers
from peftbench.child import descendants
from peftbench.store import ResultStore


@pytest.fixture
def no_server() -> Iterator[None]:
    """No fork server runs yet, as in a launcher's worker."""
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


def test_a_fork_server_that_was_never_warmed_up_outlives_what_its_parent_answers(
    no_server: None, tmp_path: Path
) -> None:
    numbers = [int(number) for number in isolate.PARENTS if number != signal.SIGTERM]
    outcome = isolate.call("crewed:asked_below", [*numbers], log=tmp_path / "log")
    assert outcome.status == "completed", outcome.error
    server = outcome.result["server"]
    os.kill(server, signal.SIGTERM)
    time.sleep(0.5)
    assert os.waitpid(server, os.WNOHANG) == (0, 0), "SIGTERM ended it"


def test_a_signal_that_comes_while_the_fork_server_starts_is_not_lost(no_server: None) -> None:
    before = forkserver.ensure_running

    def asked() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        before()

    with pytest.MonkeyPatch.context() as patch, isolate.stoppable():
        patch.setattr(forkserver, "ensure_running", asked)
        with pytest.raises(KeyboardInterrupt):
            isolate.warm_up()


@pytest.fixture
def unasked() -> Iterator[None]:
    """This process hasn't been asked to stop."""
    isolate._asked.at = float("-inf")
    yield
    isolate._asked.at = float("-inf")


def test_asked_twice_at_once_it_is_asked_once(unasked: None) -> None:
    with isolate.stoppable():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_launchers_own_handler_leaves_and_the_schedulers_sigterm_after_it_is_no_second_question(
    unasked: None, tmp_path: Path
) -> None:
    def requeue(number: int, frame: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
        sys.exit(7)

    def on_event(event: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGUSR2)

    before = signal.signal(signal.SIGUSR2, requeue)
    results: list[Any] = []
    try:
        with isolate.stoppable(), pytest.raises(SystemExit) as left:
            isolate.call("crewed:saves", log=tmp_path / "log", on_event=on_event, on_result=results.append, grace_s=20)
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert left.value.code == 7
    assert results == ["saved"], "it had no time to save"


def test_a_job_of_a_clusters_that_is_stopped_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job.terminal, "watched_by_another", lambda: True)
    with job._quietly(tmp_path / "stopped", alone=False):
        raise KeyboardInterrupt
    assert (tmp_path / "stopped").exists(), "joblib's workers begin nothing more"
    with job._quietly(None, alone=True):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), job._quietly(None, alone=False):
        raise KeyboardInterrupt


def test_of_the_launchers_slurm_alone_stops_its_jobs_one_by_one() -> None:
    from omegaconf import OmegaConf

    def known(kind: str) -> launchers.Launcher:
        return launchers.describe(
            OmegaConf.create({"_target_": f"a.{kind}", "cpus_per_task": 1, "n_jobs": 1}), [CONFIG]
        )

    assert known("SlurmLauncher").alone
    assert not known("JoblibLauncher").alone


class CONFIG:
    """As much of a run's configuration as launchers look at."""

    class hardware:
        devices, accelerator = 1, "cpu"


@pytest.mark.slow
def test_a_scheduler_that_asks_all_processes_of_a_sweep_of_joblib_lets_them_save(start, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib isn't installed")
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2", "-m"]
    parent = start("recipe.max_steps=1000", "checkpoint_every_s=0", *joblib)
    wait(lambda: len(list((tmp_path / "results" / "unfinished").glob("*/state.pt"))) == 2)
    for pid in (*descendants(parent.pid), parent.pid):
        os.kill(pid, signal.SIGTERM)
    _, err = parent.communicate(timeout=100)
    assert (parent.returncode, err) == (130, "peftbench: stopped; the same line goes on from here\n")
    stopped = [record for _, record in ResultStore(tmp_path / "results").scan()]
    assert [r.status for r in stopped] == ["interrupted"] * 2, "both at work, and no third begun"
    assert all("of 1000; goes on from there" in r.error for r in stopped)
