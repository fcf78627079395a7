"""The command line end to end: what is run, what is skipped, what fails alone, and what is refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.cli import main
from peftbench.config import compose, paths
from peftbench.errors import ConfigError
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers.runs import ASSETS, Run, records


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(ASSETS))
    return f"--config-dir={ASSETS / 'conf'}"


def test_a_multirun_then_the_same_line_again(run_cli: Run, tiny, results: Path) -> None:
    line = tiny("method=linear_probe,full", "seed=0,1", "recipe.max_steps=4")
    status, out, err = run_cli(*line, "-m")
    assert status == 0, err
    assert "4 completed (4 now, 0 before), 0 failed" in out
    *_, last = out.splitlines()
    assert last.startswith("Leaderboard and page: python -m peftbench report results_dir=")
    scores = out[out.index(" completed (") :]
    assert "95 % interval" in scores
    assert all(f" {method} " in scores for method in ("linear_probe", "full"))
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
    assert "- method=cpt on model=tiny_bert: supports decoder; tiny_bert is of the family encoder" in " ".join(
        board.split()
    )
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
    assert "bitfit (lr=0.002)" in out  # As the run had it, however it was written.


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


def test_main_takes_arguments_and_leaves_sys_argv(monkeypatch) -> None:
    before = list(sys.argv)
    assert main(["--version"]) == 0
    assert sys.argv == before
