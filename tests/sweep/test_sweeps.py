"""Sweeps: which runs a command line means, what is said before, what launchers share."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.config import compose, paths
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import gpus
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
    assert own.launcher.at_once == 2  # As many as the cores suffice for.
    one = plan_cells([*line, "hydra/launcher=joblib", "hardware.threads=1"], multirun=True)
    assert one.launcher.at_once == 3  # No more than there are runs.
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
