"""How long runs take by the records of their like, and what `status` says of those that are made."""

import io
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import compose, identity, types
from peftbench.results import activity, announcements
from peftbench.results.key import identify
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.sweep import estimates
from peftbench.system.machine import processor
from tests.helpers.runs import TINY

Run = Callable[..., tuple[int, str, str]]


def _record(config: types.RunConfig, *, key: str, train_s: float, run_s: float, rows: int) -> RunRecord:
    return RunRecord(
        key=key,
        status="completed",
        config=identity.description(config),
        score=0.5,
        efficiency={"train_time_s": train_s, "run_time_s": run_s},
        samples={"train": rows, "truncated": 0},
        environment={"cpu": processor()},
    )


def test_the_time_of_a_run_is_estimated_from_its_like(results: Path) -> None:
    """100 s of training for 10 steps and 20 s beside it: 30 steps take 320 s."""
    one = compose.one([*TINY, "recipe.max_steps=10", f"results_dir={results}"])
    store = ResultStore(results)
    store.put(one, _record(one, key="a", train_s=100.0, run_s=120.0, rows=80))
    longer = replace(one, recipe=replace(one.recipe, max_steps=30))
    elsewhere = replace(one, hardware=replace(one.hardware, threads=7))
    other = compose.one([*TINY, "method=bitfit", f"results_dir={results}"])
    assert estimates.seconds([one, longer, elsewhere, other]) == [120.0, 320.0, None, None]


def test_the_rows_of_a_training_split_of_another_name_count(results: Path) -> None:
    """A record of 80 rows of 1600 (10 s each): all of a split called `auxiliary` take 20 times as long."""
    one = compose.one([*TINY, "recipe.max_steps=null", "recipe.train_samples=80", f"results_dir={results}"])
    dataset = replace(one.dataset, train="auxiliary", rows={"auxiliary": 1600, "validation": 400})
    one = replace(one, dataset=dataset, recipe=replace(one.recipe, epochs=1))
    ResultStore(results).put(one, _record(one, key="a", train_s=100.0, run_s=120.0, rows=80))
    whole = replace(one, recipe=replace(one.recipe, train_samples=1600))
    assert estimates.seconds([whole]) == [20.0 + 20 * 100.0]


def test_time_left_counts_what_runs_and_what_waits() -> None:
    from peftbench.sweep.table import SweepProgress

    now = time.time()
    runs = [announcements.ExpectedRecord(str(i), f"{i}.json", str(i), estimate_s=100.0) for i in range(4)]
    sweep = announcements.SweepActivity(activity.me(), "", now, at_once=2, runs=runs)
    done = RunRecord(key="0", status="completed", config={}, efficiency={"run_time_s": 90.0})
    state = activity.RunActivity(activity.me(), "1", "1", since=now - 40, updated=now, step=4, steps=10)
    left = SweepProgress(sweep, {"0": done}, {"1": state}).left_s()
    assert left == pytest.approx((60 + 100 + 100) / 2, abs=1)
    unknown = replace(sweep, runs=[replace(run, estimate_s=None) for run in runs])
    assert SweepProgress(unknown, {}, {"1": state}).left_s() is None
    assert SweepProgress(unknown, {"0": done}, {"1": state}).left_s() == pytest.approx((50 + 90 + 90) / 2, abs=1)


def test_runs_that_follow_from_trials_are_counted_before_they_are_known() -> None:
    from peftbench.sweep.table import SweepProgress, headline

    now = time.time()
    runs = [announcements.ExpectedRecord(str(i), f"{i}.json", str(i)) for i in range(2)]
    sweep = announcements.SweepActivity(activity.me(), "", now, at_once=1, runs=runs, undecided=True, later=6)
    done = RunRecord(key="0", status="completed", config={}, efficiency={"run_time_s": 60.0})
    assert headline(SweepProgress(sweep, {}, {})) == "0 of 8 runs completed, 8 waiting, time left unknown yet"
    assert headline(SweepProgress(sweep, {"0": done}, {})) == "1 of 8 runs completed, 7 waiting, about 7 min left"
    early, failed = (replace(done, key="1", status=status) for status in ("pruned", "oom"))
    ended = SweepProgress(sweep, {"0": done, "1": early}, {})
    assert headline(ended).startswith("2 of 8 runs completed (1 ended early), 6 waiting")
    assert headline(SweepProgress(sweep, {"0": done, "1": failed}, {})).startswith("1 of 8 runs completed, 1 failed")


def test_a_running_trial_has_the_name_that_the_sweep_has_for_it(results: Path) -> None:
    from peftbench.sweep.table import standing

    config = compose.one([*TINY, f"results_dir={results}"])
    (planned,) = announcements.planned(results, [(config, "k", "lora · trial 2 · seed 0")], [None])
    sweep = announcements.SweepActivity(activity.me(), "", time.time(), at_once=1, runs=[planned])
    with activity.reporting(config, "lora · seed 0"):
        (running,) = standing(results, sweep).running.values()
    assert running.name == "lora · trial 2 · seed 0"


@pytest.mark.parametrize("width", [80, 120])
def test_no_figure_of_a_running_run_is_cut(width: int) -> None:
    from rich.console import Console

    from peftbench.sweep.table import table

    now, name = time.time(), "houlsby · roberta_large · tickets · trial 12 · seed 0"
    state = activity.RunActivity(activity.me(), "1", name, since=now - 340, updated=now, step=40, steps=63)
    state = replace(state, phase="evaluating", batch=3, batches=9, loss=3.453, score=0.557)
    trains = replace(state, phase="training")
    waits = announcements.ExpectedRecord("2", "2.json", name, estimate_s=400.0)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(table([state, trains], [waits], width=width))
    shown = console.export_text()
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    wanted = ["selection", "time", "left", "evaluating", "40/63", "3.453", "55.7", "6 min", "3 min", "waiting", "7 min"]
    assert [word for word in wanted if word not in shown] == []
    assert " ".join(shown.split()).count("12") == 3


def test_status_shows_what_runs_and_what_was_stopped(run_cli: Run, tiny, results: Path) -> None:
    results.mkdir()
    assert "Nothing runs" in run_cli("status", f"results_dir={results}")[1]
    config = compose.one(tiny("seed=3"))
    dead = activity.Owner(activity.me().host, 2**22 + 1, "1")
    waiting = announcements.planned(results, [(config, "k" * 20, "lora · waits")], [None])
    runs = [announcements.ExpectedRecord(identify(compose.one(tiny())), "records/x.json", "lora · runs"), *waiting]
    with announcements.announced(
        results, announcements.SweepActivity(activity.me(), "method=lora", time.time(), 1, runs=runs)
    ):
        with activity.reporting(compose.one(tiny()), "lora · runs") as tell:
            tell({"event": "step", "step": 3, "steps": 10, "loss": 0.5, "score": 0.75})
            tell({"event": "phase", "phase": "evaluating"})
            out = run_cli("status", f"results_dir={results}")[1]
        assert "0 of 2 runs completed, 1 running, 1 waiting" in out
        assert "lora · runs" in out
        assert "evaluating" in out
        assert "75.0" in out
        assert "lora · waits" in out
    activity.write(
        results / "live" / "sweep-x-1.json", announcements.SweepActivity(dead, "method=full", 0.0, 1, runs=waiting)
    )
    activity.write(results / "live" / "run-x-1.json", activity.RunActivity(dead, "x", "a ghost", 0.0, 0.0))
    out = run_cli("status", f"results_dir={results}")[1]
    assert "peftbench method=full" in out
    assert "STOPPED" in out
    assert "ghost" not in out
    with announcements.announced(
        results, announcements.SweepActivity(activity.me(), "again", time.time(), 1, runs=waiting)
    ):
        assert [s.line for s in announcements.sweeps(results)] == ["again"]


def test_a_killed_sweep_is_gone_when_others_have_made_its_runs(run_cli: Run, tiny, results: Path) -> None:
    run, dead = prepare(compose.one(tiny("seed=3"))), activity.Owner(activity.me().host, 2**22 + 1, "1")
    config, key = run.config, run.key
    runs = announcements.planned(results, [(config, key, "lora · seed 3")], [None])
    sweep = announcements.SweepActivity(dead, "method=lora", time.time() - 9, 1, runs=runs)
    file, store = results / "live" / "sweep-x-1.json", ResultStore(results)
    inputs = {"data_fingerprint": run.source.fingerprint, "model_fingerprint": run.checkpoint.fingerprint}
    described: dict[str, Any] = {"config": identity.description(config), "environment": inputs}

    def status() -> str:
        return run_cli("status", f"results_dir={results}")[1]

    activity.write(file, sweep)
    assert "STOPPED" in status()
    store.put(config, RunRecord(key=key, status="interrupted", error="stopped at step 3", **described))
    assert "STOPPED" in status(), "the same line would go on with it"
    store.put(config, RunRecord(key=key, status="completed", score=0.5, **described))
    activity.write(file, replace(sweep, undecided=True))
    assert "STOPPED" in status(), "what was tuned isn't made yet"
    activity.write(file, replace(sweep, owner=replace(dead, host="another")))
    assert "on another" in status(), "it may run there"
    activity.write(file, sweep)
    assert "Nothing runs" in status()
    assert not file.exists()


def test_status_imports_no_torch(tmp_path: Path) -> None:
    code = "import sys; from peftbench.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "status", f"results_dir={tmp_path}"], check=False)
    assert done.returncode == 0
