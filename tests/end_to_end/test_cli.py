"""The command line end to end: what is run, what is skipped, what fails alone, and what is refused in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.cli import main
from peftbench.config import compose, paths
from peftbench.errors import ConfigError
from peftbench.results.store import ResultStore
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system.process_child import descendants
from tests.helpers.runs import ASSETS, TINY

Run = Callable[..., tuple[int, str, str]]


def records(results: Path) -> list:
    return [record for _, record in ResultStore(results).scan()]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(ASSETS))
    return f"--config-dir={ASSETS / 'conf'}"


def test_a_multirun_then_the_same_line_again(run_cli: Run, tiny, results: Path) -> None:
    line = tiny("method=linear_probe,full", "seed=0,1", "recipe.max_steps=4")
    status, out, err = run_cli(*line, "-m")
    assert status == 0, err
    assert "4 completed (4 now, 0 before), 0 failed" in out
    found = records(results)
    assert {(r.config["method"]["name"], r.config["seed"]) for r in found} == {
        (method, seed) for method in ("linear_probe", "full") for seed in (0, 1)
    }
    assert all(r.efficiency["peak_memory_bytes"] > 0 for r in found)
    stamps = {r.key: r.environment["started_unix_s"] for r in found}

    status, out, _ = run_cli(*line, "-m")
    assert status == 0
    assert "4 completed (0 now, 4 before), 0 failed" in out
    assert {r.key: r.environment["started_unix_s"] for r in records(results)} == stamps

    logs = list((results / "logs").rglob("run.log"))
    assert len(logs) == 4
    assert {results / r.log for r in found} == set(logs)


def test_the_same_run_gives_the_same_bits_and_another_seed_others(run_cli: Run, tiny, tmp_path: Path) -> None:
    scores = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        status, _, err = run_cli(*tiny("recipe.max_steps=8", f"seed={seed}"), f"results_dir={tmp_path / folder}")
        assert status == 0, err
        scores.append(json.dumps(records(tmp_path / folder)[0].metrics))
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


REASONS = {
    "raises": ("error", "ValueError: step five is not for me"),
    "killed": ("error", "killed by SIGKILL; the kernel does that when memory runs out"),
    "crashes": ("error", "killed by SIGSEGV"),
    "runs_out": ("oom", "RuntimeError"),
    "diverges": ("diverged", "the loss is nan"),
    "exits": ("error", "exit code 7"),
}


def test_failures_stay_alone_and_only_they_are_run_again(
    run_cli: Run, tiny, results: Path, faulty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(paths.choices("method", [ASSETS / "conf"])) - set(paths.choices("method")) == set(REASONS)
    line = [faulty, *tiny(f"method={','.join(REASONS)},lora", "recipe.max_steps=12"), "-m"]
    status, out, _ = run_cli(*line)
    assert status == 1
    assert "1 completed (1 now, 0 before), 6 failed" in out
    found = {r.config["method"]["name"]: r for r in records(results)}
    assert found.pop("lora").status == "completed"
    for method, (status_, reason) in REASONS.items():
        assert found[method].status == status_, found[method].error
        assert reason in found[method].error
        assert "\n" not in found[method].error
        assert (results / found[method].log).is_file()
    # A crash leaves its stack in the log, an exception its traceback.
    assert "Segmentation fault" in (results / found["crashes"].log).read_text()
    assert "faulty.py" in (results / found["raises"].log).read_text()

    monkeypatch.setenv("FAULTS_MENDED", "1")
    status, out, _ = run_cli(*line)
    assert status == 1
    assert "6 completed (5 now, 1 before), 1 failed" in out
    assert "diverges · tiny_bert · sst2 · seed 0: failed: Diverged" in out
    assert not (results / "tmp").exists()


def test_an_overwritten_run_that_fails_is_a_failure(
    run_cli: Run, tiny, faulty: str, monkeypatch, results: Path
) -> None:
    monkeypatch.setenv("FAULTS_MENDED", "1")
    line = [faulty, *tiny("method=raises", "recipe.max_steps=6")]
    assert run_cli(*line)[0] == 0
    monkeypatch.delenv("FAULTS_MENDED")
    status, out, _ = run_cli(*line, "overwrite=true")
    assert (status, "1 failed" in out) == (1, True)
    assert sorted(r.status for r in records(results)) == ["completed", "error"]


def test_values_that_refer_to_the_seed_follow_it() -> None:
    cells = plan_cells(["seed=0,1", "dataset.carve.seed=${seed}"], multirun=True).cells
    assert [(c.seed, c.dataset.carve.seed) for c in cells] == [(0, 0), (1, 1)]
    prompts = [name for name in paths.choices("method") if name.startswith("p")]
    assert [c.method.name for c in plan_cells(["method=glob(p*)"], multirun=True).cells] == prompts


def test_a_prepared_sweep_needs_no_flag() -> None:
    plan = plan_cells(["sweep=glue_quick", "dataset=rte", "seed=0,1"], multirun=False)
    assert plan.multirun
    assert len(plan.cells) == 24
    assert [c.method.name for c in plan.cells if c.seed == 0] == [
        "full", "linear_probe", "bitfit", "lora", "ia3", "prefix", "prompt", "p_tuning", "p_tuning_v2", "houlsby",
        "zero_shot", "majority",
    ]  # fmt: skip
    assert {c.dataset.name for c in plan.cells} == {"rte"}


def test_an_experiment_is_what_its_paper_says() -> None:
    config = compose.one(["experiment=lora/table2_roberta_base", "dataset=rte"])
    assert (config.model.name, config.dataset.name, config.method.name) == ("roberta_base", "rte", "lora")
    assert config.method.lr == 5e-4
    assert config.method.adapter["lora_alpha"] == 16
    assert (config.recipe.batch_size, config.recipe.epochs, config.recipe.max_length) == (32, 80, 512)
    assert (config.expected.value, config.expected.spread) == (0.866, 0.007)


BAD = [
    (["method=lorra"], ["method=lorra", "nearest: lora"]),
    (["model=bert_bas"], ["model=bert_bas", "nearest: bert_base"]),
    (["dataset=sst3"], ["dataset=sst3", "nearest: sst2"]),
    (["sweep=glue_quik"], ["sweep=glue_quik", "nearest: glue_quick"]),
    (["experiment=lora/rte"], ["experiment=lora/rte", "nearest: "]),
    (["hardware=tpu"], ["hardware=tpu", "cpu, cpu_bf16"]),
    (["method=lora,nope", "-m"], ["method=nope"]),
    (["methd=lora"], ["methd", "nearest: method"]),
    (["recipe.bach_size=4"], ["recipe.bach_size", "nearest: batch_size"]),
    (["recipe.batch_size.x=4"], ["recipe.batch_size is a single value"]),
    (["method.adapter.rr=4"], ["method.adapter.rr", "+method.adapter.rr="]),
    (["+method.adapter.rr=4"], ["method.adapter.rr: LoraConfig has no such argument"]),
    (["+recipe.foo=1"], ["recipe.foo: no such key", "batch_size"]),
    (["method.lr=fast"], ["method.lr", "fast"]),
    (["method.lr=-0.1"], ["method.lr=-0.1", "above 0"]),
    (["method.lr=0"], ["method.lr=0", "above 0"]),
    (["method.lr=inf"], ["method.lr=inf", "above 0"]),
    (["method.lr=nan"], ["method.lr=nan", "above 0"]),
    (["method.lr=null"], ["method.lr", "needs a learning rate"]),
    (["recipe.batch_size=0"], ["recipe.batch_size=0", "at least 1"]),
    (["recipe.batch_size=2.5"], ["recipe.batch_size", "2.5"]),
    (["recipe.batch_size=[1,2]"], ["recipe.batch_size"]),
    (["recipe.epochs=-3"], ["recipe.epochs=-3", "at least 1"]),
    (["recipe.max_steps=0"], ["recipe.max_steps=0"]),
    (["recipe.selection=luck"], ["recipe.selection=luck", "best_on_selection | best_on_validation | last"]),
    (["recipe.schedule=steps"], ["recipe.schedule=steps", "linear | cosine | constant"]),
    (["recipe.warmup_ratio=1.5"], ["recipe.warmup_ratio=1.5", "at most 1"]),
    (["seed=-1"], ["seed=-1", "at least 0"]),
    (["seed=one"], ["seed", "one"]),
    (["seed=0,-1", "-m"], ["seed=-1"]),
    (["seed=null"], ["seed"]),
    (["hardware.precision=8"], ["hardware.precision=8", "32-true | bf16-mixed"]),
    (["hardware.threads=0"], ["hardware.threads=0"]),
    (["formulation=magic"], ["formulation=magic", "auto | head | verbaliser | text"]),
    (["dataset=[sst2,rte]"], ["dataset=[sst2,rte]", "dataset=a,b"]),
    (["method={a:b}"], ["method={a:b}"]),
    (["method=null"], ["method=null"]),
    (["dataset.metrics={accuracy:up}"], ["dataset.metrics"]),
    (["dataset.labels=[yes]"], ["dataset.labels", "two or more"]),
    (["method.site=everywhere"], ["method.site=everywhere", "attention_query_value"]),
    (["experiment=lora/table2_roberta_base", "method=full"], ["experiment=lora/table2_roberta_base fixes its method"]),
    (["data_root=/nowhere", "dataset=sst2"], ["data_root=/nowhere"]),
    (["dataset=sst2"], ["can't be reached", "data_root=", "dataset=demo"]),
    (["model=roberta_base"], ["model=roberta_base", "can't be reached", "model_root="]),
    (["model_root=/nowhere", "model=roberta_base"], ["model_root=/nowhere"]),
    (["results_dir=/proc/x"], ["results_dir=/proc/x", "can't be written"]),
    (["--fast"], ["--fast: no such option"]),
    (["--config-dir=/nowhere"], ["--config-dir /nowhere"]),
    (["train"], ["train: no such command", "report"]),
    (["repotr"], ["repotr: no such command", "nearest: report"]),
    (["report", "results=x"], ["report: results=x", "results_dir="]),
    (["report", "results_dir=/nowhere"], ["results_dir=/nowhere"]),
    (["list", "method"], []),
    (["list", "metods"], ["list metods", "nearest: methods"]),
    (["check", "all"], ["check: takes no all"]),
    (["model.head=[]"], ["model.head"]),
    (["method.adapter.lora_alpha=nan"], ["method.adapter.lora_alpha=nan", "finite"]),
    (["~method"], ["method: is required"]),
    (["dataset=demo", "dataset.evaluation=[test]"], ["dataset.evaluation=test", "train, validation"]),
    (["dataset=demo", "dataset.train=trian"], ["dataset.train=trian"]),
    (["dataset=csv"], ["dataset.train_file: is required"]),
    (["dataset=csv", "dataset.train_file=no.csv"], ["dataset.train_file=no.csv: there is no such file"]),
    (["recipe.shots=4"], ["recipe.shots_seed: is required"]),
    (["recipe=fewshot", "recipe.shots=0"], ["recipe.shots=0"]),
    (["hardware=gpu"], ["hardware.accelerator=gpu", "no CUDA device"]),
    (["recipe.max_length=600"], ["recipe.max_length=600", "514 positions"]),
    (["recipe.max_length=500", "method=prompt"], ["recipe.max_length=500", "virtual tokens take 20"]),
    (["method.adapter.target_modules='(('"], ["method=lora"]),
    (["+recipe.optimizer.lr=1"], ["recipe.optimizer"]),
    (["a b"], ["a b"]),
    (["=1"], ["=1"]),
    (["method.adapter._target_=os.system"], ["method.adapter._target_=os.system"]),
    (["method._target_=subprocess.Popen"], ["method._target_=subprocess.Popen", "allowed is a subclass"]),
    (["recipe.optimizer._target_=os.system"], ["recipe.optimizer._target_=os.system"]),
    (["results_dir=${oc.env:NOT_THERE}"], ["NOT_THERE"]),
    (["recipe.batch_size=${seed"], ["recipe.batch_size=${seed"]),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_nothing_is_trained(
    run_cli: Run, results: Path, arguments: list[str], said: list[str]
) -> None:
    if arguments == ["list", "method"]:
        assert run_cli(*arguments)[0] == 0  # The singular is understood.
        return
    commanded = not any("=" in a or a.startswith("-") for a in arguments[:1])
    places = [] if commanded or arguments[0].startswith("results_dir") else [f"results_dir={results}"]
    model = [] if commanded or any("model" in a or "experiment" in a for a in arguments) else ["model=tiny_bert"]
    status, out, err = run_cli(*arguments, *model, *places)
    assert status == 2, (out, err)
    lines = err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("peftbench: ")
    for words in said:
        assert words in lines[0]
    assert not list(results.rglob("*.json"))


def test_ones_own_file_from_the_command_line_to_the_leaderboard(run_cli: Run, tmp_path: Path, results: Path) -> None:
    """Relative to where one stands; labels are found and said."""
    rows = "".join(f"it was number {i},{('bad', 'good')[i % 2]}\n" for i in range(40))
    (tmp_path / "opinions.csv").write_text(f"text,mark\n{rows}")
    files = [f"dataset.{split}_file={os.path.relpath(tmp_path / 'opinions.csv')}" for split in ("train", "validation")]
    line = ["model=tiny_bert", "recipe.max_steps=2", f"results_dir={results}", "dataset=csv", *files]
    status, out, err = run_cli(*line, "dataset.text=[text]", "dataset.label=mark", "recipe.max_length=40")
    assert status == 0, err
    assert "opinions: dataset.labels=[bad, good], as found" in out
    assert "lora · tiny_bert · opinions" in out
    assert "opinions (accuracy)" in run_cli("report", f"results_dir={results}")[1]
    status, _, err = run_cli(*line, "dataset.text=[text]", "dataset.label=grade")
    assert (status, "opinions.csv has no such column; it has text, mark" in err) == (2, True)


def test_flags_may_stand_anywhere(run_cli: Run, results: Path) -> None:
    for line in (["-m", "seed=0,-1"], ["seed=0,-1", "-m"], ["seed=0,-1", "-m", "model=tiny_bert"], ["seed=0,-1"]):
        status, _, err = run_cli(*line, f"results_dir={results}")
        assert (status, "seed=-1" in err) == (2, True)


def test_help_list_and_version_need_no_torch() -> None:
    for command in (["--help"], ["list"], ["list", "methods"], ["--version"]):
        code = f"import sys; from peftbench.cli import main; main({command}); sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def test_list_shows_every_file(run_cli: Run) -> None:
    for group in paths.groups():
        out = run_cli("list", group)[1]
        lines = out.split("\n\n")[-1].splitlines()
        assert [line.split()[0] for line in lines] == paths.choices(group)


def test_a_folder_of_ones_own_may_come_before_the_command(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text((paths.CONF / "method" / "lora.yaml").read_text())
    status, out, _ = run_cli("--config-dir", str(tmp_path), "list", "methods")
    assert status == 0
    assert "\nmine " in out


def test_a_sweep_leaves_out_what_isnt_applicable(run_cli: Run, tiny, results: Path) -> None:
    line = [*tiny("method=bitfit,shadow,cpt", "recipe.max_steps=2"), "-m"]
    status, out, _ = run_cli(*line)
    assert status == 0
    assert "not applicable: method=shadow on model=tiny_bert: supports decoder" in out
    assert "1 completed (1 now, 0 before), 0 failed, 2 not applicable" in out
    assert sorted(r.status for r in records(results)) == ["completed", "not_applicable", "not_applicable"]
    run_cli("report", f"results_dir={results}")
    board = (results / "leaderboard.md").read_text()
    assert "## Not applicable" in board
    assert "- method=cpt on model=tiny_bert: supports decoder; tiny_bert is of the family encoder" in board
    assert run_cli(*line)[0] == 0


def test_alone_it_is_an_error(run_cli: Run, tiny, results: Path) -> None:
    status, _, error = run_cli(*tiny("method=shadow"))
    assert status == 2
    assert "method=shadow on model=tiny_bert: supports decoder" in error
    status, _, error = run_cli(*tiny("method=shadow,cpt"), "-m")
    assert status == 2
    assert "no run of this command line is applicable" in error
    assert {r.status for r in records(results)} == {"not_applicable"}


def test_in_a_sweep_that_changes_a_method_a_misfit_is_a_mistake(run_cli: Run, tiny, results: Path) -> None:
    status, _, error = run_cli(*tiny("method=lora,ia3", "method.adapter.target_modules=[nowhere]"), "-m")
    assert status == 2
    assert "No modules were targeted" in error


def test_what_a_command_line_changed_is_on_the_leaderboard(run_cli: Run, tiny, results: Path) -> None:
    assert run_cli(*tiny("method=bitfit", "method.lr=2e-3", "recipe.max_steps=2"))[0] == 0
    out = run_cli("report", f"results_dir={results}")[1]
    assert "bitfit (lr=2e-3)" in out


def test_a_sink_whose_library_is_missing_is_refused(run_cli: Run, tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger

    from peftbench.run.training import sinks

    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("Neither `tensorboard` nor `tensorboardX` is available.")

    monkeypatch.setattr(TensorBoardLogger, "__init__", missing)
    with pytest.raises(ConfigError, match="tensorboard"):
        sinks.check(compose.one(["logger=tensorboard"]))


def test_hydra_shows_the_composed_configuration(run_cli: Run) -> None:
    status, out, _ = run_cli("--cfg", "job", "method=houlsby")
    assert status == 0
    assert "bottleneck_size: 64" in out


def test_preflight_stops_before_the_first_run(run_cli: Run, tiny, results: Path) -> None:
    status, _, err = run_cli(*tiny("method=lora,bitfit", "+method.adapter.nowhere=1"), "-m")
    assert status == 2
    assert "method.adapter.nowhere" in err
    assert records(results) == []


@pytest.mark.slow
def test_from_another_folder_as_a_module(tmp_path: Path, data_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *TINY, "recipe.max_steps=2", f"data_root={data_root}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert "1 completed" in done.stdout
    assert len(records(tmp_path / "results")) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_whose_parent_is_killed_does_not_train_on(tmp_path: Path, data_root: Path) -> None:
    line = [*TINY, "recipe.max_steps=100000", f"data_root={data_root}"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "peftbench", *line],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("run.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        workers = list(descendants(parent.pid))
        assert workers
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1.0, 2.0, 3.5])
def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path: Path, data_root: Path, after: float) -> None:
    """A terminal sends it to every process of the group, the fork server that is importing torch among them."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "peftbench", *TINY, f"data_root={data_root}"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    )
    time.sleep(after)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.wait(60) == 130
    assert parent.stderr is not None
    assert parent.stderr.read() == "peftbench: stopped; the same line goes on from here\n"


def test_main_takes_arguments_and_leaves_sys_argv(monkeypatch) -> None:
    before = list(sys.argv)
    assert main(["--version"]) == 0
    assert sys.argv == before
