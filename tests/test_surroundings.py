"""What the environment, a long name or another library's words must not do to a run."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from composed import composed

from peftbench import checkpoints, compose, loggers, paths, system, tuning, wording
from peftbench.backbones import model_config
from peftbench.checkpoints import Checkpoint
from peftbench.errors import ConfigError, brief
from peftbench.job import prepare
from peftbench.plan import Run

RunCli = Callable[..., tuple[int, str, str]]


def _start(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    given = {"PYTHONPATH": str(paths.PACKAGE.parent), **environ}
    line = [sys.executable, "-m", "peftbench", "model=tiny_bert", "dataset=demo", f"results_dir={folder / 'r'}"]
    return subprocess.run(
        [*line, *arguments], cwd=folder, env={**os.environ, **given}, capture_output=True, text=True, errors="replace"
    )


@pytest.mark.parametrize("asked", ["error", "error::DeprecationWarning,default::UserWarning"])
def test_warnings_as_errors_are_no_fault_of_a_method(tmp_path: Path, asked: str) -> None:
    done = _start(tmp_path, "method=lora,prefix", "dry_run=true", PYTHONWARNINGS=asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 to do" in done.stdout


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_output_that_takes_ascii_only_is_enough(tmp_path: Path, environ: dict[str, str]) -> None:
    done = _start(tmp_path, "method=lora,prefix", "dry_run=true", PYTHONCOERCECLOCALE="0", **environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tiny_bert ? demo" in done.stdout


def test_other_warning_options_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["error", "ignore::UserWarning", "e::FutureWarning"])
    monkeypatch.setenv("PYTHONWARNINGS", "error,ignore::UserWarning")
    system.relax_warnings()
    assert sys.warnoptions == ["ignore::UserWarning"]
    assert os.environ["PYTHONWARNINGS"] == "ignore::UserWarning"


def test_a_name_that_no_folder_can_have_is_refused(run_cli: RunCli, tmp_path: Path, results: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\n" + "".join(f"t {i},{i % 2}\n" for i in range(20)))
    own = ["dataset=csv", f"dataset.train_file={file}", f"dataset.validation_file={file}", "dataset.text=[text]"]
    own += ["dataset.label=label", "model=tiny_bert", "method=majority", "dry_run=true", f"results_dir={results}"]
    for title in ("x" * 300, "x" * 299 + "y"):
        status, _, err = run_cli(*own, f"dataset.title={wording.quoted(title)}")
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert err.startswith(f"peftbench: dataset.title={title[:40]}...: a name of 300 bytes")
    assert run_cli(*own, f"dataset.title={'x' * 200}")[0] == 0


def test_a_mixture_of_many_parts_has_too_long_a_name(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    names = [f"a_part_with_quite_a_long_name_{i}" for i in range(8)]
    for name in names:
        text = (paths.CONF / "dataset" / "sst2.yaml").read_text(encoding="utf-8")
        (tmp_path / "dataset" / f"{name}.yaml").write_text(text, encoding="utf-8")
    line = ["dataset=mixture", f"dataset.parts=[{','.join(names)}]"]
    config = compose.plan(line, multirun=False, config_dirs=[tmp_path]).cells[0]
    with pytest.raises(ConfigError, match="dataset.parts="):
        prepare(config)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("model.sites=${oc.env:NOPE}", "model.sites: "),
        ("method.site=${oc.env:NOPE}", "method.site: "),
        ("seed=${oc.env:NOPE}", "seed: "),
        ("tune=${oc.env:NOPE}", "tune: "),
        ("zip=${oc.env:NOPE}", "zip: "),
        ("exclude=${oc.env:NOPE}", "exclude: "),
        ("results_dir=${oc.env:NOPE}", "NOPE"),
    ],
)
def test_a_reference_to_nothing_is_one_line(given: str, said: str) -> None:
    for multirun in (False, True):
        with pytest.raises(ConfigError) as error:
            compose.plan(["model=tiny_bert", "method=lora", given], multirun=multirun)
        assert said in str(error.value)
        assert len(str(error.value)) < 300


def test_an_unknown_architecture_names_the_nearest_in_a_line() -> None:
    config = composed(["model=tiny_bert", "model.config.model_type=bertt"])
    with pytest.raises(ConfigError) as error:
        model_config(config.model, Checkpoint(None, ""), SimpleNamespace(model_args={}))  # type: ignore[arg-type]
    assert "nearest of its" in str(error.value)
    assert " bert" in str(error.value)
    assert len(str(error.value)) < 300


def test_an_unknown_architecture_of_a_checkpoint_is_short(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nope"}')
    config = composed(["model=minilm"])
    with pytest.raises(ConfigError) as error:
        model_config(config.model, Checkpoint(str(tmp_path), ""), SimpleNamespace(model_args={}))  # type: ignore[arg-type]
    assert len(str(error.value)) < 500
    assert brief(ValueError("a" * 10_000)) == "a" * 300 + "..."


@pytest.mark.parametrize("package", ["a.b/x", "/etc", "", ".", "a b/x"])
def test_a_package_that_is_no_name_is_refused(package: str) -> None:
    with pytest.raises(ConfigError, match="allowed is an installed package"):
        checkpoints.packaged_at(package)


@pytest.mark.parametrize("folder", ["it's", "a, b", "a=b", "a b", "a#b", "50%", "a\\'b", '"', "{a}", "[a]"])
def test_trials_lie_within_any_results_folder(tiny: Callable[..., list[str]], tmp_path: Path, folder: str) -> None:
    root = tmp_path / folder
    given = [word for word in tiny("method=lora", "tune=2") if not word.startswith("results_dir=")]
    words = [*given, f"results_dir={wording.quoted(str(root))}"]
    config = compose.plan(words, multirun=True).cells[0]
    trial = tuning.Study([Run(prepare(config), words, "", None)], []).ask()
    assert trial.cell.config.results_dir == f"{root}/trials"


def test_no_run_of_wandb_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import wandb

    for name, value in {"MODE": "offline", "RUN_ID": "one", "RESUME": "must", "SWEEP_ID": "s"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    config, seen = composed(["model=tiny_bert", "logger=wandb"]), []
    for number in range(2):
        monkeypatch.setenv("WANDB_RUN_ID", "one")
        (logger,) = loggers.build(config, str(number), tmp_path)
        seen.append(logger.experiment.id)
        wandb.finish()
    assert len(set(seen)) == 2
    assert "one" not in seen


def test_both_loggers_of_a_run_are_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = composed(["model=tiny_bert", "logger=[csv,tensorboard]"])
    loggers.check(config)
    assert [type(logger).__name__ for logger in loggers.build(config, "k", tmp_path)] == [
        "CSVLogger",
        "TensorBoardLogger",
    ]
