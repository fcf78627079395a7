"""Every configuration file: described, composed, valid; and a broken one is found."""

import re
from pathlib import Path

import pytest
import yaml

from peftbench.config import compose, loading, paths
from peftbench.config.dataset_parts import CarveConfig
from peftbench.config.dataset_types import USUAL
from peftbench.errors import ConfigError
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers.composed import composed, written

FILES = {f"{group}={name}": file for group in paths.groups() for name, file in paths.choice_files(group).items()}


def test_there_are_files_in_every_group() -> None:
    assert {choice.split("=")[0] for choice in FILES} == set(paths.groups())
    everything = set(paths.CONF.glob("[a-z]*/**/*.yaml")) - set(paths.CONF.glob("architecture/*"))
    everything -= set(paths.CONF.glob("claims/*"))
    assert set(FILES.values()) == everything


@pytest.mark.parametrize("choice", FILES)
def test_a_file_opens_with_what_it_is(choice: str) -> None:
    lines = [line for line in FILES[choice].read_text().splitlines() if not line.startswith("# @")]
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 20


@pytest.mark.parametrize("name", paths.choices("method"))
def test_a_method_says_what_it_does_and_where_it_is_from(name: str) -> None:
    config = loading.read_yaml(paths.choice_files("method")[name])
    assert config["family"] in {"full", "baseline", "compression", "additive", "selective", "reparametrised", "hybrid"}
    assert config["summary"]
    if config["lr"] is not None:
        assert config["source"]
        low, high = config["search"]["lr"]
        assert float(low) < float(config["lr"]) < float(high)


@pytest.mark.parametrize("name", paths.choices("dataset"))
def test_a_data_set_is_whole(name: str) -> None:
    data = composed([f"dataset={name}"]).dataset
    if data.format is not None:  # The user's own: all of it is said on the command line.
        assert data.train_file is data.path is None
        return
    trained = {f"{part.name}/{part.train}" for part in data.parts or []} or {data.train}
    assert set(data.rows) == {*trained, *data.evaluation}
    assert data.metrics
    file = paths.choice_files("dataset")[name].read_text()
    pinned = data.revision or data.commit or "\n# No commit is known" in file
    assert data.parts or data.generator or (data.path and pinned)


def test_data_sets_leave_out_what_is_usual() -> None:
    """What is carved out of train has one home, `CarveConfig`; a file says what differs, the command line the rest."""
    repeated = {
        (name, section, key)
        for name, file in written("dataset").items()
        for section, usual in USUAL.items()
        for key, value in file.get(section, {}).items()
        if usual[key] == value
    }
    assert USUAL
    assert repeated == set()
    assert composed(["dataset=sst2"]).dataset.carve == CarveConfig()
    assert composed(["dataset=samsum", "model=tiny_llama"]).dataset.carve == CarveConfig(at_most=100)
    set_two = composed(["dataset=samsum", "model=tiny_llama", "dataset.carve={seed: 3, fraction: 0.2}"])
    assert set_two.dataset.carve == CarveConfig(fraction=0.2, at_most=100, seed=3)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("dataset.carve.fraktion=0.2", "dataset.carve.fraktion: no such key; allowed are at_most, fraction, seed"),
        ("dataset.carve=3", "dataset.carve=3: allowed are keys fraction, at_most, seed"),
        ("at_most=3", "at_most: no such key; meant may be dataset.carve.at_most"),
    ],
)
def test_a_section_that_files_leave_out_is_checked(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        compose.one(["dataset=sst2", override])


@pytest.mark.slow
def test_check_finds_what_is_broken_and_nothing_else(run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a few files that are right; that all of ours are, `peftbench check` says for itself."""
    there, beside = paths.choices, {"method": ["lora", "full"], "dataset": ["demo", "sst2", "rte"], "sweep": ["rank"]}
    monkeypatch.setattr(
        paths,
        "choices",
        lambda group, folders=(): [
            name for name in there(group, folders) if name in beside.get(group, [name]) or name not in there(group)
        ],
    )
    for group, name, text in [
        ("method", "nowhere", "_target_: peftbench.methods.hub.Hub\nlr: 1e-3\nsite: nowhere\n"
         "supports: [encoder]\nadapter: {_target_: peft.LoraConfig, target_modules: '${model.sites.${method.site}}'}"),
        ("method", "typo", "_target_: peftbench.methods.hub.Hub\nlr: 1e-3\n"
         "adapter: {_target_: peft.LoraConfig, rank: 3, target_modules: [query]}\nsupports: [encoder]\n"),
        ("recipe", "forever", "defaults: [default]\nepochs: 0\nbatch_size: many\nepoch: 3\n"),
        ("model", "broken", "family: [encoder\nhead: {"),
    ]:  # fmt: skip
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / f"{name}.yaml").write_text(text)
    status, out, _ = run_cli("check", f"--config-dir={tmp_path}")
    assert status == 2
    nowhere, typo, forever, broken = (
        str(tmp_path / f"{name}.yaml") for name in ("method/nowhere", "method/typo", "recipe/forever", "model/broken")
    )
    assert f"{nowhere}: method.site=nowhere: this model names no such site" in out
    assert f"{nowhere}: model=bert_base names no site nowhere" in out
    assert "method.adapter.rank: LoraConfig has no such argument" in out
    assert f"{forever}: recipe.epochs=0: allowed is a number at least 1" in out
    assert f"{forever}: recipe.batch_size: " in out
    assert f"{forever}: recipe.epoch: no such key" in out
    *problems, last = out.splitlines()
    assert f"{broken}: can't be read as YAML" in out
    assert {line.partition(": ")[0] for line in problems} == {nowhere, typo, forever, broken}
    assert last.startswith(f"{sum(len(paths.choices(group)) for group in paths.groups()) + 3} files, ")
    assert last.endswith(f" {len(problems)} problems")


def test_check_says_all_that_is_wrong_with_a_file(run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one in a folder laid out as conf/, by its path alone."""
    for group, name, text in [
        ("recipe", "mine", "defaults: [default]\nepochs: 0\nbatch_size: many\nepoch: 3\n"),
        ("method", "mine", "_target_: peftbench.methods.hub.Hub\nlr: fast\nsite: nowhere\nsupports: [encoder]\n"
         "adapter: {_target_: peft.LoraConfig, target_modules: '${model.sites.${method.site}}'}\nmergable: true\n"),
        ("recipe", "other", "defaults: [default]\nepochs: -1\n"),
    ]:  # fmt: skip
        (tmp_path / group).mkdir(exist_ok=True)
        (tmp_path / group / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    status, out, _ = run_cli("check", "recipe/mine.yaml", str(tmp_path / "method" / "mine.yaml"))
    *problems, last = out.splitlines()
    assert status == 2
    assert {line.split(";")[0].split(": Value")[0].split(": allowed")[0] for line in problems} == {
        "recipe/mine.yaml: recipe.epoch: no such key",
        "recipe/mine.yaml: recipe.batch_size",
        "recipe/mine.yaml: recipe.epochs=0",
        "method/mine.yaml: method.site=nowhere: this model names no such site",
        "method/mine.yaml: method.mergable: no such key",
        "method/mine.yaml: method.lr",
    }
    assert last == "2 files, 0 configurations composed, 6 problems"


def test_check_of_a_file_that_is_right(run_cli, tmp_path: Path) -> None:
    (tmp_path / "hardware").mkdir()
    file = tmp_path / "hardware" / "mine.yaml"
    file.write_text("defaults: [cpu]\nmicro_batch_size: 8\n")
    for words in ([str(file)], [f"--config-dir={tmp_path}", str(file)], [str(paths.CONF / "method" / "bitfit.yaml")]):
        status, out, _ = run_cli("check", *words)
        assert (status, out.splitlines()[-1].endswith(", 0 problems")) == (0, True), out


def test_check_refuses_what_is_no_configuration(run_cli, tmp_path: Path) -> None:
    (tmp_path / "notes.yaml").write_text("a: 1")
    for word, said in [("nowhere.yaml", "check: takes no nowhere.yaml"), (tmp_path / "notes.yaml", "lies in no group")]:
        status, _, err = run_cli("check", str(word))
        assert (status, len(err.strip().splitlines()), said in err) == (2, 1, True)


def test_list_describes_a_choice(run_cli) -> None:
    status, out, _ = run_cli("list", "method", "LoRA")
    file = yaml.safe_load((paths.CONF / "method" / "lora.yaml").read_text())
    assert status == 0
    assert out.startswith("method=lora\n")
    for fact in (file["source"], ", ".join(file["supports"]), "folds into the weights", "adapter.r 4, 8, 16", "r: 8"):
        assert fact in out
    assert "sweep=rank" in out
    assert "records in" in out
    for group in paths.groups():
        for name in paths.choices(group)[:3]:
            assert run_cli("list", group, name)[0] == 0
    for words, said in [
        (["method", "lorra"], "nearest: lora"),
        (["keys", "lora"], "takes no lora"),
        (["method", "lora", "dora"], "not 3 words"),
    ]:
        status, _, err = run_cli("list", *words)
        assert (status, said in err) == (2, True)


def test_what_one_command_changes_the_next_does_not_see(tmp_path: Path) -> None:
    """Files and checked sections are kept for later commands of a process."""
    (tmp_path / "recipe").mkdir()
    file = tmp_path / "recipe" / "mine.yaml"
    file.write_text("defaults: [default]\nepochs: 2\n")
    zipped = ["zip=[seed,method]", "seed=0,1", "method=lora,full"]
    plan_cells(["recipe=mine", *zipped], multirun=True, config_dirs=[tmp_path])
    first = plan_cells(["recipe=mine"], multirun=False, config_dirs=[tmp_path]).cells[0]
    assert (first.zip, first.recipe.epochs) == ([], 2)
    first.recipe.epochs = 7
    first.method.supports.clear()
    again = plan_cells(["recipe=mine"], multirun=False, config_dirs=[tmp_path]).cells[0]
    assert (again.recipe.epochs, again.method.supports) == (2, compose.one([]).method.supports)
    file.write_text("defaults: [default]\nepochs: 3\n")
    assert plan_cells(["recipe=mine"], multirun=False, config_dirs=[tmp_path]).cells[0].recipe.epochs == 3


@pytest.mark.parametrize("content", [b"lr: [1, 2\nadapter: {", b"\xff\xfe\x00lr: 1", b"- 1\n- 2\n", None])
def test_a_broken_file_is_named_and_the_others_are_listed(run_cli, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "method" / "broken.yaml"
    file.parent.mkdir()
    if content is None:
        file.symlink_to(tmp_path / "nowhere")
    else:
        file.write_bytes(content)
    status, out, err = run_cli("list", "methods", f"--config-dir={tmp_path}")
    assert (status, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith(f"broken: {file}: ")]
    assert {line.split()[0] for line in out.splitlines() if line} >= set(paths.choices("method"))
    status, _, err = run_cli("method=broken", "model=tiny_bert", "dry_run=true", f"--config-dir={tmp_path}")
    assert (status, len(err.strip().splitlines())) == (2, 1)
