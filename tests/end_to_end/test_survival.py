"""What goes wrong around a run costs that run at most, and never its numbers."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.results import store
from peftbench.results.store import ResultStore
from peftbench.system import process, process_group
from peftbench.system.process_child import children, descendants
from tests.helpers.runs import TROUBLE, Run, alive, only, records, wait


@pytest.mark.slow
def test_a_hang_is_ended_and_the_sweep_goes_on(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    line = tiny("method=hangs,lora", "recipe.max_steps=8", "timeout_s=10", "checkpoint_every_s=0", "-m")
    started = time.monotonic()
    status, out, _ = run_cli(TROUBLE, *line)
    assert time.monotonic() - started < 90
    assert status == 1
    assert "1 completed (1 now, 0 before), 1 failed" in out
    record = only(results, "timeout")
    assert record.error == "no result after 10 s (timeout_s)"
    assert any("" != line for line in record.log_tail)
    assert (results / record.log).is_file()


@pytest.mark.slow
def test_a_run_is_tried_again_and_goes_on_where_it_was(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    line = tiny("method=flaky", "recipe.max_steps=8", "retry=2", "checkpoint_every_s=0")
    assert run_cli(TROUBLE, *line)[0] == 0
    assert "ConnectionError: only once" in only(results, "error").error
    assert any("ConnectionError: only once" in line for line in only(results, "error").log_tail)
    record = only(results, "completed")
    assert record.environment["resumed_at_steps"] == [5]
    assert not (results / "unfinished" / record.key).exists()


@pytest.mark.slow
def test_fail_fast_starts_nothing_after_a_failure(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    line = tiny("method=insatiable,lora", "recipe.max_steps=4", "fail_fast=true", "-m")
    status, out, _ = run_cli(TROUBLE, *line)
    assert status == 1
    assert "0 completed (0 now, 0 before), 1 failed, 1 without a record" in out
    record = only(results, "oom")
    assert record.error == "MemoryError (with micro batches of 1, the smallest)"


@pytest.mark.slow
def test_out_of_memory_halves_the_micro_batch_and_keeps_the_key(
    run_cli: Run, tiny, results: Path, trouble: Path
) -> None:
    status, out, _ = run_cli(TROUBLE, *tiny("method=hungry", "recipe.max_steps=8"))
    assert status == 0
    assert "out of memory with micro batches of 8" in out
    record = only(results, "completed")
    assert (record.efficiency["micro_batch_size"], record.efficiency["oom_halvings"]) == (2, 2)
    assert record.config["hardware"]["micro_batch_size"] is None
    assert any("memory ran out with micro batches of 8; trained in micro batches of 2" in n for n in record.footnotes)
    assert run_cli(TROUBLE, *tiny("method=hungry", "recipe.max_steps=8"))[0] == 0
    assert len(records(results)) == 1


@pytest.mark.slow
def test_a_dead_data_worker_fails_its_run_alone(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    # More batches than a worker reads ahead, so that it is missed.
    line = tiny("method=orphaned", "recipe.max_steps=60", "hardware.workers=1")
    started = time.monotonic()
    assert run_cli(TROUBLE, *line)[0] == 1
    assert time.monotonic() - started < 60
    assert "DataLoader worker" in only(results, "error").error


def test_stopped_before_it_listens_it_is_interrupted_not_failed(tmp_path: Path) -> None:
    def stop(event: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(process.Stopped) as stopped:
        process.call("tests.helpers.on_ranks:deaf", log=tmp_path / "log", on_event=stop, grace_s=20)
    assert stopped.value.outcome.status == "interrupted"
    assert stopped.value.outcome.error == "stopped before it could save its state"


def test_what_the_kernel_killed_ran_out_of_memory(tmp_path: Path) -> None:
    assert process_group.died(-signal.SIGKILL, tmp_path / "log", kernel_killed=True).status == "oom"
    assert process_group.died(-signal.SIGKILL, tmp_path / "log", kernel_killed=False).status == "error"
    assert process_group.kernel_kills() >= 0


def test_what_said_that_memory_ran_out_ran_out_of_memory(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    assert process_group.died(-signal.SIGABRT, log, kernel_killed=False).status == "oom"
    assert process_group.died(process_group.NO_MEMORY, tmp_path / "none", kernel_killed=False).status == "oom"
    log.write_text("Extension modules: numpy, torch._Cmemory allocation of 9 bytes failed\nskipping backtrace\n")
    assert process_group.died(-signal.SIGABRT, log, kernel_killed=False) == process_group.Outcome(
        status="oom", error="memory ran out: memory allocation of 9 bytes failed"
    )
    log.write_text("terminate called without an active exception\n")
    assert process_group.died(-signal.SIGABRT, log, kernel_killed=False).status == "error"
    assert "fork server" in process_group.died(255, log, kernel_killed=False).error


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [60_000, 150_000, 400_000, 700_000, 850_000])
def test_with_too_little_memory_there_is_one_line(tiny, tmp_path: Path, kilobytes: int) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (kilobytes * 1024, kilobytes * 1024))

    line = [sys.executable, "-m", "peftbench", *tiny("method=lora", "recipe.max_steps=2")]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(line, env=environ, capture_output=True, text=True, preexec_fn=limit, timeout=120)
    assert done.returncode in (1, 2), done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("peftbench: ")


def test_a_record_that_a_killed_parent_left_is_put_without_training(
    run_cli: Run, tiny, train, cell, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = train("recipe.max_steps=4")
    kept = ResultStore(results)
    found = cell("recipe.max_steps=4")
    store.write_ended(kept.places(found.config, found.key).unfinished, record)
    monkeypatch.setattr(process, "call", _only_verifies(process.call))
    status, out, _ = run_cli(*tiny("recipe.max_steps=4"))
    assert status == 0
    assert "had ended when it was stopped: recorded now" in out
    assert records(results) == [record]
    assert not (results / "unfinished" / record.key).exists()


def _only_verifies(call: Callable[..., Any]) -> Callable[..., Any]:
    def checked(target: str, *arguments: Any, **more: Any) -> Any:
        assert target.endswith(":verify")
        return call(target, *arguments, **more)

    return checked


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_saves_itself_and_later_ends_as_if_it_never_was(
    start, run_cli: Run, tiny, trouble: Path, tmp_path: Path, number: int
) -> None:
    line = tiny("method=slow", "recipe.max_steps=24")
    assert run_cli(TROUBLE, *line, f"results_dir={tmp_path / 'whole'}")[0] == 0
    cut = start("recipe.max_steps=24", "checkpoint_every_s=0")
    wait(lambda: list((tmp_path / "results" / "unfinished").glob("*/state.pt")))
    time.sleep(0.5)
    asked = time.monotonic()
    cut.send_signal(number)
    out, err = cut.communicate(timeout=60)
    assert time.monotonic() - asked < 10
    assert (cut.returncode, err) == (130, "peftbench: stopped; the same line goes on from here\n")
    assert "stopping: its state is being saved" in out
    stopped = only(tmp_path / "results", "interrupted")
    assert "of 24; goes on from there" in stopped.error
    assert run_cli(TROUBLE, *line)[0] == 0
    ended, expected = (only(tmp_path / folder, "completed") for folder in ("results", "whole"))
    step = int(stopped.error.split()[3])
    assert ended.environment["resumed_at_steps"] == [step]
    assert expected.environment["resumed_at_steps"] == []
    assert json.dumps(ended.metrics) == json.dumps(expected.metrics)
    assert ended.key == expected.key


@pytest.mark.slow
def test_a_scheduler_that_stops_a_sweep_of_joblib_lets_its_workers_save(start, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib isn't installed")
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "seed=0,1,2", "-m"]
    parent = start("recipe.max_steps=1000", "checkpoint_every_s=0", *joblib)
    wait(lambda: len(list((tmp_path / "results" / "unfinished").glob("*/state.pt"))) == 2)
    parent.terminate()  # The parent alone, as Slurm's scancel or a service manager may.
    _, err = parent.communicate(timeout=60)
    assert (parent.returncode, err) == (130, "peftbench: stopped; the same line goes on from here\n")
    stopped = records(tmp_path / "results")
    assert [r.status for r in stopped] == ["interrupted"] * 2, "both at work, and no third begun"
    assert all("of 1000; goes on from there" in r.error for r in stopped)


@pytest.mark.slow
def test_no_grace_means_none(start, tmp_path: Path) -> None:
    parent = start("recipe.max_steps=1000", "grace_s=0", "checkpoint_every_s=0")
    wait(lambda: list((tmp_path / "results" / "unfinished").glob("*/state.pt")))
    parent.terminate()
    assert parent.wait(30) == 130
    assert only(tmp_path / "results", "interrupted").error == "stopped before it could save its state"


@pytest.mark.slow
def test_a_fork_server_that_is_killed_takes_the_run_along(start, tmp_path: Path) -> None:
    parent = start("recipe.max_steps=1000", "checkpoint_every_s=0")
    wait(lambda: list((tmp_path / "results" / "unfinished").glob("*/state.pt")))
    below = list(descendants(parent.pid))
    (server,) = [pid for pid in below if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text() and [*children(pid)]]
    os.kill(server, signal.SIGKILL)
    assert parent.wait(60) == 1
    wait(lambda: not [pid for pid in below if alive(pid)], 10)
