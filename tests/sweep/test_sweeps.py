"""Sweeps: which runs a command line means, what is said before, what launchers share, what tuning keeps."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import compose, identity, loading, paths, types
from peftbench.errors import ConfigError
from peftbench.results import activity, announcements
from peftbench.results.key import identify
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.sweep import estimates, plan, tuning
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import gpus
from peftbench.system.machine import processor
from tests.helpers.composed import composed
from tests.helpers.runs import TINY

Run = Callable[..., tuple[int, str, str]]


def records(results: Path) -> list[RunRecord]:
    return [record for _, record in ResultStore(results).scan() if isinstance(record, RunRecord)]


def cells(*arguments: str) -> list[tuple[str, str, int]]:
    found = plan_cells(arguments, multirun=True).cells
    return [(c.method.name, c.dataset.name, c.seed) for c in found]


SWEPT = ["method=lora,full", "dataset=sst2,rte", "seed=0,1"]


def test_zipped_keys_go_through_their_values_together() -> None:
    assert cells(*SWEPT, "zip=[method,dataset]") == [
        ("lora", "sst2", 0),
        ("lora", "sst2", 1),
        ("full", "rte", 0),
        ("full", "rte", 1),
    ]
    assert cells(*SWEPT, "zip=[[method,dataset,seed]]") == [("lora", "sst2", 0), ("full", "rte", 1)]
    two = plan_cells(
        [
            "method=lora,full",
            "dataset=sst2,rte",
            "seed=0,1",
            "recipe.epochs=2,3",
            "zip=[[method,seed],[dataset,recipe.epochs]]",
        ],
        multirun=True,
    ).cells
    assert [(c.method.name, c.seed, c.dataset.name, c.recipe.epochs) for c in two] == [
        ("lora", 0, "sst2", 2),
        ("lora", 0, "rte", 3),
        ("full", 1, "sst2", 2),
        ("full", 1, "rte", 3),
    ]


def test_without_zip_or_exclude_all_combinations_are_run() -> None:
    assert len(cells(*SWEPT)) == 8


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("[method]", "two or more swept keys"),
        ("[method,recipe.epochs]", "recipe.epochs isn't swept"),
        ("[[method,dataset],[method,seed]]", "method comes twice"),
        ("method", "zip"),
    ],
)
def test_a_wrong_zip_is_said(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_cells([*SWEPT, f"zip={given}"], multirun=True)
    with pytest.raises(ConfigError, match="seed has 3"):
        plan_cells(["method=lora,full", "seed=0,1,2", "zip=[method,seed]"], multirun=True)


def test_excluded_runs_are_left_out() -> None:
    found = cells(*SWEPT, 'exclude=["method=full dataset=rte","dataset=sst2 seed=1"]')
    assert found == [("lora", "sst2", 0), ("lora", "rte", 0), ("lora", "rte", 1), ("full", "sst2", 0)]
    assert {method for method, *_ in cells(*SWEPT, 'exclude=["method=l*"]')} == {"full"}
    assert cells(*SWEPT, 'exclude=["method.lr=0.001"]') == cells(*SWEPT[1:], "method=full")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('["metod=full"]', "no run has such a key"),
        ('["full"]', "is no condition"),
        ('["seed=*"]', "takes out every run"),
    ],
)
def test_a_wrong_exclude_is_said(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan_cells([*SWEPT, f"exclude={given}"], multirun=True)


def test_threads_are_divided_and_the_key_is_that_of_the_same_run_alone(
    monkeypatch: pytest.MonkeyPatch, results: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="the extra joblib isn't installed")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    line = ["model=tiny_bert", "seed=0,1,2", f"results_dir={results}"]
    several = plan_cells([*line, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], multirun=True)
    assert (several.launcher.at_once, several.launcher.threads) == (2, 4)
    alone = plan_cells([*line, "hardware.threads=4"], multirun=True)
    assert [prepare(c).key for c in several.cells] == [prepare(c).key for c in alone.cells]
    own = plan_cells([*line, "hydra/launcher=joblib", "hardware.threads=3"], multirun=True)
    assert {c.hardware.threads for c in own.cells} == {3}
    assert own.launcher.at_once == 3  # No more than there are runs.
    assert {c.hardware.threads for c in plan_cells(line, multirun=True).cells} == {None}
    with pytest.raises(ConfigError, match="n_jobs=0"):
        plan_cells([*line, "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"], multirun=True)


def test_each_run_gets_a_gpu_of_its_own_while_there_are_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setattr(gpus.tempfile, "gettempdir", lambda: str(tmp_path))
    config = compose.one(["hardware=gpu"])
    with gpus.own_gpu(config.hardware.devices):
        first = os.environ["CUDA_VISIBLE_DEVICES"]
        os.environ["CUDA_VISIBLE_DEVICES"] = "3,5"  # As another process sees it.
        with gpus.own_gpu(config.hardware.devices):
            second = os.environ["CUDA_VISIBLE_DEVICES"]
    assert {first, second} == {"3", "5"}
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"
    with gpus.own_gpu(0):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,5"


def test_a_dry_run_shows_the_plan_and_trains_nothing(run_cli: Run, tiny, results: Path) -> None:
    status, out, err = run_cli(*tiny("method=bitfit,shadow", "seed=0,1", "dry_run=true"))
    assert status == 0, err
    assert "to do  bitfit · tiny_bert · sst2  seeds 0 1" in out
    assert "Plan: 2 to do, 0 done, 2 not applicable; time unknown" in out
    assert {r.status for r in records(results)} == {"not_applicable"}
    assert run_cli(*tiny("method=bitfit", "dry_run=true"))[0] == 0
    assert not list(results.rglob("run.log"))


def test_a_line_that_is_done_says_so(run_cli: Run, tiny) -> None:
    line = tiny("method=majority", "seed=0,1")
    assert run_cli(*line)[0] == 0
    status, out, _ = run_cli(*line)
    assert status == 0
    assert "Plan: 0 to do, 2 done" in out


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
    from peftbench.sweep.table import Standing

    now = time.time()
    runs = [announcements.ExpectedRecord(str(i), f"{i}.json", str(i), estimate_s=100.0) for i in range(4)]
    sweep = announcements.SweepActivity(activity.me(), "", now, at_once=2, runs=runs)
    done = RunRecord(key="0", status="completed", config={}, efficiency={"run_time_s": 90.0})
    state = activity.RunActivity(activity.me(), "1", "1", since=now - 40, updated=now, step=4, steps=10)
    left = Standing(sweep, {"0": done}, {"1": state}).left_s()
    assert left == pytest.approx((60 + 100 + 100) / 2, abs=1)
    unknown = replace(sweep, runs=[replace(run, estimate_s=None) for run in runs])
    assert Standing(unknown, {}, {"1": state}).left_s() is None
    assert Standing(unknown, {"0": done}, {"1": state}).left_s() == pytest.approx((50 + 90 + 90) / 2, abs=1)


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


SEARCHED = [
    name for name in paths.choices("method") if "search" in loading.read_yaml(paths.CONF / "method" / f"{name}.yaml")
]


def test_there_are_searches() -> None:
    assert len(SEARCHED) > 10


@pytest.mark.parametrize("name", SEARCHED)
def test_a_search_can_be_asked(name: str) -> None:
    """Every value of a search lies in the method's file's own shape, and the file's own values in the search."""
    config = composed([f"method={name}"])
    for key, allowed in tuning._search(config).items():
        if tuning._is_range(key):
            low, high = (float(end) for end in allowed)
            assert 0 < low < high, key
        else:
            assert len(set(map(str, allowed))) == len(allowed) > 1, key
    assert tuning._usual(config) is not None


@pytest.fixture
def optuna() -> None:
    pytest.importorskip("optuna", reason="the extra tune isn't installed")


@pytest.mark.usefixtures("optuna")
def test_a_study_asked_again_proposes_the_same_and_keeps_the_best(
    tiny, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def study() -> tuple[list[dict], dict | None]:
        composed = plan_cells(tiny("method=lora", "seed=0,1", "tune=6"), multirun=True)
        runs = plan.make([prepare(c) for c in composed.cells], composed.overrides)
        found, rest = tuning.studies(runs, [])
        assert rest == []
        assert len(found) == 1
        # A method whose score is best at rank 4 and the highest rate.
        monkeypatch.setattr(
            tuning, "selection_score", lambda cell: cell.config.method.lr - cell.config.method.adapter["r"] / 1000
        )
        for asked in tuning.rounds(found):
            assert all(Path(run.cell.config.results_dir) == results / "trials" for _, run in asked)
            assert all(run.cell.config.tune is None for _, run in asked)
        assert [run.cell.config.seed for run in found[0].finals()] == [0, 1]
        return found[0].tried, found[0].best()

    first, best = study()
    assert len(first) == 6
    assert first[0]["values"] == {"lr": 0.001, "adapter.r": 8}  # The file's own come first.
    assert best == max(first, key=lambda trial: trial["score"])
    assert study() == (first, best)


@pytest.mark.usefixtures("optuna")
def test_trials_need_a_split_that_is_not_the_evaluation(tiny, run_cli: Run) -> None:
    status, _, err = run_cli(*tiny("tune=2", "recipe.selection=best_on_validation"))
    assert status == 2
    assert "carves nothing from train" in err


@pytest.mark.slow
@pytest.mark.usefixtures("optuna")
def test_tuned_runs_say_what_was_tried_and_trials_are_no_rows(run_cli: Run, tiny, results: Path) -> None:
    line = tiny("method=lora,majority", "seed=0,1", "tune=2", "recipe.max_steps=3", "recipe.eval_steps=3")
    status, out, err = run_cli(*line)
    assert status == 0, (out, err)
    assert "4 completed (4 now, 0 before), 0 failed" in out
    tuned = [r for r in records(results) if r.config["method"]["name"] == "lora"]
    assert len(tuned) == 2
    for record in tuned:
        assert record.config["tune"] == 2
        assert record.tuning is not None
        assert len(record.tuning["tried"]) == record.tuning["trials"] == 2
        values = record.tuning["best"]["values"]
        assert record.config["method"]["lr"] == values["lr"]
        assert record.config["method"]["adapter"]["r"] == values["adapter.r"]
    trials = {r.key: r for r in records(results / "trials")}
    for trial in tuned[0].tuning["tried"]:
        assert trials[trial["key"]].metrics["selection"]["score"] == trial["score"]
    run_cli("report", f"results_dir={results}")
    board = (results / "leaderboard.md").read_text()
    assert "by 2 trials on the selection split" in board
    assert "tune=2" in board
    stamps = {r.key: r.environment["started_unix_s"] for r in trials.values()}
    status, out, _ = run_cli(*line)
    assert status == 0
    assert "4 completed (0 now, 4 before)" in out
    assert {r.key: r.environment["started_unix_s"] for r in records(results / "trials")} == stamps


def _figures(results: Path) -> dict[str, str]:
    return {r.key: json.dumps(r.metrics) for r in records(results)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "package"),
    [("joblib", "hydra_joblib_launcher"), ("submitit_local", "hydra_submitit_launcher"), ("ray", "hydra_ray_launcher")],
)
def test_every_launcher_gives_the_metrics_of_the_basic_one(
    run_cli: Run, tiny, tmp_path: Path, launcher: str, package: str
) -> None:
    pytest.importorskip(f"hydra_plugins.{package}", reason="its extra isn't installed")
    line = [*tiny("method=lora,linear_probe", "recipe.max_steps=8", "hardware.threads=1")]
    basic, several = tmp_path / "basic", tmp_path / "several"
    assert run_cli(*line, f"results_dir={basic}")[0] == 0
    status, out, err = run_cli(*line, f"results_dir={several}", f"hydra/launcher={launcher}")
    assert status == 0, (out, err)
    assert "2 completed (2 now, 0 before), 0 failed" in out
    assert len(_figures(basic)) == 2
    assert _figures(several) == _figures(basic)


@pytest.mark.slow
def test_two_sweeps_on_one_folder_train_nothing_twice(tmp_path: Path, data_root: Path) -> None:
    line = [*TINY, "recipe.max_steps=40", "method=lora,bitfit,full", f"data_root={data_root}", "results_dir=r"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "peftbench", *line],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(records(tmp_path / "r")) == 3
    assert len(list((tmp_path / "r" / "logs").rglob("run.log"))) == 3


def test_a_prepared_sweep_may_zip_and_exclude(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {method: 'lora,full', seed: '0,1'}}}\n"
        "zip: [method, seed]\nexclude: [method=full]\n"
    )
    found = plan_cells(["sweep=mine"], multirun=False, config_dirs=[tmp_path]).cells
    assert [(c.method.name, c.seed) for c in found] == [("lora", 0)]
