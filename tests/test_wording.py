"""What people type: other cases, keys without their section, spaces, commands: understood, or answered in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import compose, system, wording
from peftbench.errors import ConfigError, exact

Run = Callable[..., tuple[int, str, str]]

TINY = ["model=tiny_bert", "dry_run=true"]


def test_names_match_in_any_case() -> None:
    plan = compose.plan(["Model=Tiny_BERT", "method=LoRA,FULL", "dataset=Demo", "logger=CSV"], multirun=True)
    assert [cell.method.name for cell in plan.cells] == ["lora", "full"]
    assert {(c.model.name, c.dataset.name, c.logger["name"]) for c in plan.cells} == {("tiny_bert", "demo", "csv")}
    assert compose.plan(["sweep=GLUE_quick", "seed=0"], multirun=False).cells
    mixture = compose.one(["dataset=mixture", "dataset.parts=[SST2,Rte]"])
    assert mixture.dataset.name == "sst2+rte"


def test_of_two_names_that_differ_in_case_alone_none_is_guessed() -> None:
    assert [exact(name, ["Mine", "mine", "other"]) for name in ("Mine", "mine", "MINE", "OTHER")] == [
        "Mine",
        "mine",
        "MINE",
        "other",
    ]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("lr=1e-3", "method.lr"),
        ("+lr=1e-3", "method.lr"),
        ("epochs=1", "recipe.epochs"),
        ("batch_size=8", "recipe.batch_size"),
        ("max_steps=8", "recipe.max_steps"),
        ("max_length=64", "recipe.max_length"),
        ("threads=2", "hardware.threads"),
        ("method.r=4", "method.adapter.r"),
        ("r=4", "method.adapter.r"),
        ("target_modules=[query]", "method.adapter.target_modules"),
        ("recipe.lr=1", "method.lr"),
        ("hardware.batch_size=4", "recipe.batch_size"),
        ("launcher=joblib", "hydra/launcher"),
    ],
)
def test_a_key_without_its_section_names_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.plan([*TINY, given], multirun=False)
    said = str(error.value)
    assert "meant may be " in said
    assert meant in said.partition("meant may be ")[2].split(", ")


@pytest.mark.parametrize(
    ("given", "write"),
    [
        (["method=lora,", "prefix"], "method=lora,prefix"),
        (["method=lora", ",prefix"], "method=lora,prefix"),
        (["seed=0,", "1,", "2", "dataset=demo"], "seed=0,1,2"),
        (["method", "=", "lora"], "method=lora"),
        (["method=", "lora"], "method=lora"),
        (["dataset.text=[a,", "b]"], "'dataset.text=[a,b]'"),
    ],
)
def test_a_space_that_ends_an_argument_is_explained(given: list[str], write: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.plan([*TINY, *given], multirun=True)
    assert str(error.value).endswith(f"a space ends an argument; write {write}")


def test_a_comma_at_the_end_and_signs_that_need_quotes_are_explained() -> None:
    with pytest.raises(ConfigError, match="ends or begins with a comma"):
        compose.plan([*TINY, "method=lora,"], multirun=True)
    for text in ("it's", "a#b", "é", "a=b"):
        with pytest.raises(ConfigError, match="quotes within quotes") as error:
            compose.plan([*TINY, f"results_dir={text}"], multirun=False)
        assert "\n" not in str(error.value)
        assert compose.one([*TINY, f"results_dir={wording.quoted(text)}"]).results_dir == text


@pytest.mark.parametrize(
    "text", ["it's", "a, b", "a=b", "a#b", "50%", "a\\b", "a\\'b", 'say "x"', "{a: 1}", "[1]", "null"]
)
def test_a_quoted_text_is_read_back(text: str) -> None:
    assert compose.one([*TINY, f"results_dir={wording.quoted(text)}"]).results_dir == text


def test_a_launcher_that_is_not_there_names_no_extra_that_is_not_there() -> None:
    with pytest.raises(ConfigError) as error:
        compose.plan(["hydra/launcher=ray", "seed=0,1"], multirun=True)
    assert "pip install" not in str(error.value)
    assert {"joblib", "submitit", "tune", "lm_eval"} <= system.extras()
    assert "ray" not in system.extras()


def test_a_launcher_of_an_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "extras", lambda: {"elsewhere"})
    with pytest.raises(ConfigError, match=r'pip install "peftbench\[elsewhere\]"'):
        compose.plan(["hydra/launcher=elsewhere_local", "seed=0,1"], multirun=True)


def test_several_loggers_of_a_run() -> None:
    config = compose.one([*TINY, "logger=[CSV, wandb]", "logger.wandb.project=mine"])
    assert config.logger["csv"]["name"] == "csv"
    assert config.logger["wandb"]["project"] == "mine"
    assert compose.one([*TINY, "logger=[csv]"]).logger["name"] == "csv"
    assert compose.one([*TINY, "logger=[]"]).logger["_target_"] is None
    with pytest.raises(ConfigError, match="no such logger"):
        compose.one([*TINY, "logger=[csv,nowhere]"])


def test_a_sweep_over_sinks_is_refused(run_cli: Run, results: Path) -> None:
    status, _, err = run_cli(*TINY, "logger=csv,wandb", f"results_dir={results}")
    assert status == 2
    assert "logger=[csv,wandb]" in err
    for swept in ("save_adapters=true,false", f"results_dir={results},{results}2"):
        status, _, err = run_cli(*TINY, f"results_dir={results}", swept)
        assert (status, len(err.strip().splitlines())) == (2, 1)
        assert f"{swept.partition('=')[0]}: runs that differ in nothing else are one run" in err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["help"], "Groups ("),
        (["HELP", "report"], "peftbench report [FOLDER"),
        (["report", "--help"], "peftbench report [FOLDER"),
        (["status", "-h"], "peftbench status [FOLDER"),
        (["check", "--help"], "peftbench check"),
        (["list", "--help"], "peftbench list ["),
        (["convert", "--help"], "peftbench convert"),
        (["--config-dir", "nowhere", "check", "--help"], "peftbench check"),
        (["method=lora", "--help"], "Groups ("),
        (["List", "METHODS"], "lora"),
    ],
)
def test_help_and_commands_in_any_case(run_cli: Run, line: list[str], said: str) -> None:
    status, out, err = run_cli(*line)
    assert (status, err) == (0, "")
    assert said in out


def test_a_folder_is_enough_for_report_and_status(run_cli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    for command in ("report", "Status"):
        status, out, err = run_cli(command, str(folder))
        assert (status, err) == (0, "")
        assert str(folder) in out.replace("\n", "")
        assert run_cli(command, str(tmp_path / "nowhere"))[0] == 2


def test_a_choice_that_is_typed_as_a_command_names_its_group(run_cli: Run) -> None:
    assert "meant may be method=lora" in run_cli("lora")[2]
    assert "nearest: report" in run_cli("reprot")[2]
