"""The processes of one run as their parent sees them: they end together, and one record says why."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench import errors
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.system import process, process_child, process_group, stop
from peftbench.system.process_group import Member, Outcome
from tests.helpers.composed import composed
from tests.helpers.runs import TROUBLE, alive, wait

Run = Callable[..., tuple[int, str, str]]


def _only(results: Path) -> RunRecord:
    (record,) = [record for _, record in ResultStore(results).scan()]
    assert isinstance(record, RunRecord)
    return record


def test_the_rank_to_blame_is_not_one_that_another_led() -> None:
    gone = Outcome(status="error", error="RuntimeError: [gloo] Connection closed by peer")

    def member(rank: int, said: Outcome | None, *, lost: bool = False) -> Member:
        return Member(rank, None, None, Path(), said, lost, gone=said is None)  # type: ignore[arg-type]

    lost, silent = member(0, gone, lost=True), member(1, None)
    stopped, failed = member(1, Outcome(status="interrupted")), member(1, Outcome(status="error", error="only here"))
    assert process_group.blamed([lost, stopped]) is stopped
    assert process_group.blamed([lost, silent]) is silent
    assert process_group.blamed([lost, failed]) is failed


def test_a_rank_that_another_asked_to_stop_was_not_in_error() -> None:
    assert not stop.asked()
    assert process_child.status_of(errors.Interrupted("stopped at step 3")) == "interrupted"
    assert process_child.status_of(ValueError("only here")) == "error"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_run_on_two_ranks_is_one_record(run_cli: Run, tiny, results: Path, strategy: str) -> None:
    more = ["recipe.max_steps=8", "recipe.eval_steps=3", "logger=csv", "hardware.workers=1"]
    line = tiny("hardware=ddp_cpu", f"hardware.strategy={strategy}", *more)
    assert run_cli(*line)[0] == 0
    record = _only(results)
    assert (record.status, record.config["hardware"]["devices"]) == ("completed", 2)
    assert record.metrics["validation"]["n"] == 40  # type: ignore[index]
    figures = record.efficiency or {}
    assert figures["peak_memory_bytes"] > figures["peak_memory_bytes_per_device"]  # type: ignore[operator]
    assert figures["inference_latency_ms"] is not None
    assert figures["micro_batch_size"] == 4
    logs = Path(results, str(record.log)).parent
    assert {file.name for file in logs.glob("*.log")} == {"run.log", "run.rank1.log"}
    assert len(list(logs.rglob("metrics.csv"))) == 1
    for folder in ("predictions", "adapters"):
        assert len([file for file in (results / folder).rglob(f"*{record.key}*")]) == 1
    assert run_cli(*line)[0] == 0
    assert _only(results) == record


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hungry", "hungry_there"])
def test_memory_that_runs_out_on_one_rank_halves_the_batches_of_all(
    run_cli: Run, tiny, results: Path, trouble: Path, method: str
) -> None:
    assert run_cli(TROUBLE, *tiny(f"method={method}", "hardware=ddp_cpu", "recipe.max_steps=8"))[0] == 0
    record = _only(results)
    assert record.efficiency is not None
    assert (record.efficiency["micro_batch_size"], record.efficiency["oom_halvings"]) == (2, 1)


@pytest.mark.slow
def test_an_error_names_its_rank_and_its_log(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    status, out, _ = run_cli(TROUBLE, *tiny("method=lame", "hardware=ddp_cpu", "recipe.max_steps=8"))
    assert status == 1
    record = _only(results)
    assert record.error == "rank 1: ValueError: only here"
    assert "ValueError: only here" in record.log_tail
    assert str(record.log).endswith("run.rank1.log")


@pytest.fixture
def stuck(tmp_path: Path) -> Callable[..., tuple[Outcome, list[int]]]:
    """What becomes of ranks that wait for each other once one was sent a signal, or none; and which processes they
    were."""

    def call(victim: int | None, timeout_s: float) -> tuple[Outcome, list[int]]:
        pids: list[int] = []

        def tell(event: dict[str, Any]) -> None:
            pids.extend(event["pids"])
            if victim is not None:
                os.kill(pids[victim], signal.SIGKILL)

        hardware = composed(["hardware=ddp_cpu"]).hardware
        log = tmp_path / "stuck.log"
        found = process.call(
            "tests.helpers.on_ranks:stuck", hardware, log=log, devices=2, on_event=tell, timeout_s=timeout_s
        )
        assert len(pids) == 2
        return found, pids

    return call


@pytest.mark.slow
@pytest.mark.parametrize("victim", [1, 0])
def test_a_rank_that_is_killed_takes_the_run_along(stuck, victim: int) -> None:
    outcome, pids = stuck(victim, 60)
    assert outcome.status == "error"
    assert outcome.error.startswith(f"rank {victim}: the process was killed by SIGKILL")
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_ranks_that_hang_are_ended(stuck) -> None:
    outcome, pids = stuck(None, 5)
    assert outcome.status == "timeout"
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_asked_to_stop_all_ranks_save_one_state(run_cli: Run, tiny, results: Path, trouble: Path) -> None:
    def ask() -> None:
        wait(lambda: list((results / "unfinished").glob("*/state.pt")))
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    line = tiny("method=slow", "hardware=ddp_cpu", "recipe.max_steps=400", "checkpoint_every_s=0")
    assert run_cli(TROUBLE, *line)[0] == 130
    asking.join()
    record = _only(results)
    assert record.status == "interrupted"
    assert str(record.error).endswith("of 400; goes on from there")
