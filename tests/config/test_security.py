"""Nothing is read through pickle, no record or configuration from elsewhere runs code or writes where it shouldn't, and
no secret reaches a file."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.config import compose, identity, loading, paths
from peftbench.errors import ConfigError
from peftbench.models import checkpoints
from peftbench.results.store import ResultStore
from peftbench.system import redact
from tests.helpers.runs import ASSETS

Run = Callable[..., tuple[int, str, str]]
FILES = sorted(paths.PACKAGE.rglob("*.py"))

#: Calls that read pickles or run text as code.
_UNSAFE = {"pickle.load", "pickle.loads", "torch.jit.load", "joblib.load", "yaml.load", "marshal.loads", "eval", "exec",
           "hydra.utils.instantiate", "instantiate", "hydra.utils.call"}  # fmt: skip


def _unsafe(source: str) -> Iterator[str]:
    """Imports and calls of a source text that could run what they read."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from (n for n in names if n.split(".")[0] in {"pickle", "cPickle", "dill", "cloudpickle", "shelve"})
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in _UNSAFE or given.get("allow_pickle") == "True":
                yield called
            if called == "torch.load" and given.get("weights_only") != "True":
                yield "torch.load without weights_only=True"
            if given.get("trust_remote_code") == "True":
                yield f"{called} with trust_remote_code=True"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(paths.PACKAGE)))
def test_nothing_is_read_through_pickle(file: Path) -> None:
    assert list(_unsafe(file.read_text())) == []


def test_what_would_be_is_found() -> None:
    text = "import pickle\ntorch.load(f)\nnp.load(f, allow_pickle=True)\neval('1')\nx(trust_remote_code=True)"
    assert len(list(_unsafe(text))) == 5
    assert len(FILES) > 50


def test_a_saved_state_that_is_code_is_left_out(train, cell, results: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (results / "pwned",))

    found = cell("recipe.max_steps=2")
    folder = ResultStore(results).places(found.config, found.key).unfinished
    folder.mkdir(parents=True)
    torch.save({"step": 1, "evil": Evil()}, folder / "state.pt")
    assert train("recipe.max_steps=2").status == "completed"
    assert not (results / "pwned").exists()
    assert "the saved state can't be read" in caplog.text


CODE = [
    ("method._target_=subprocess.Popen", "allowed is a subclass"),
    ("method.adapter._target_=os.system", "allowed is a subclass"),
    ("method.adapter._target_=peftbench.methods.hub.torch.optim.AdamW", "can't be imported"),
    ("recipe.optimizer._target_=peftbench.run.training.optimizer.torch.optim.AdamW", "can't be imported"),
    ("recipe.optimizer._target_=torch.optim.AdamW.__base__", "can't be imported"),
    ("method=corda method.adapter.corda_config._target_=peft.PeftModel", "allowed is CordaConfig"),
    ("method=corda method.adapter.corda_config._target_=peft.EvaConfig", "allowed is CordaConfig"),
    ("method=corda +method.adapter.corda_config.cache_file=/tmp/x", "corda_config.cache_file=/tmp/x"),
    ("logger=csv logger.name=../../x", "logger.name=../../x"),
    ("logger=csv +logger.root_dir=/tmp", "logger.root_dir=/tmp"),
    ("recipe.optimizer._target_=subprocess.Popen", "allowed is a subclass"),
    ("logger=csv logger._target_=subprocess.Popen", "allowed is a subclass"),
    ("logger=csv logger._target_=os.system", "allowed is a subclass"),
    ("logger=csv logger._target_=peftbench.run.training.sinks.Logger.x", "can't be imported"),
    ("dataset.generator=peftbench.data.demo.pa.os.abort", "can't be imported"),
    ("dataset.generator=os.abort", "allowed is a function"),
    ("dataset.generator=sys.exit", "allowed is a function"),
    ("dataset.generator=shutil.disk_usage", "allowed is a function"),
    ("+hydra.callbacks.x._target_=os.system", "hydra.callbacks.x._target_=os.system"),
    ("hydra.launcher._target_=os.system", "hydra.launcher._target_=os.system"),
    ("hydra.sweeper._target_=subprocess.Popen", "hydra.sweeper._target_=subprocess.Popen"),
    ("+hydra.job_logging.handlers.x={class: os.system}", "hydra.job_logging"),
    ("+hydra.job_logging.handlers.x={(): os.system}", ""),
    ("+hydra.job.env_set.LD_PRELOAD=/tmp/x.so", "hydra.job.env_set.LD_PRELOAD"),
    ("+hydra.job.env_set.PYTHONPATH=/tmp", "hydra.job.env_set.PYTHONPATH"),
    ("hydra.run.dir=/tmp/elsewhere", "hydra.run.dir=/tmp/elsewhere"),
    ("hydra.sweep.dir=../elsewhere", "hydra.sweep.dir=../elsewhere"),
    ("hydra.sweep.subdir=../../x", "hydra.sweep.subdir=../../x"),
    ("method=../method/lora", "method=../method/lora"),
    ("method=/etc/passwd", "method=/etc/passwd"),
]


@pytest.mark.parametrize(("line", "said"), CODE, ids=[line for line, _ in CODE])
def test_a_configuration_calls_only_what_its_place_allows(run_cli: Run, results: Path, line: str, said: str) -> None:
    words = [line] if "{" in line else line.split()
    status, _, err = run_cli(*words, "model=tiny_bert", f"results_dir={results}")
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert said in err
    assert not list(results.rglob("*.json"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[[str, str, str], str]:
    """A configuration folder from elsewhere with one file."""

    def make(group: str, name: str, text: str) -> str:
        file = tmp_path / "elsewhere" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        return f"--config-dir={tmp_path / 'elsewhere'}"

    return make


@pytest.mark.parametrize(
    "text",
    [
        "# @package _global_\nhydra: {callbacks: {x: {_target_: os.system}}}",
        "# @package _global_\nhydra: {job: {env_set: {LD_PRELOAD: x}}}",
        "# @package _global_\nhydra: {launcher: {_target_: subprocess.Popen}}",
        "# @package _global_\ndefaults: [{override /method: ../../../tmp/evil}]",
    ],
)
def test_nor_does_a_file_of_an_experiment(run_cli: Run, results: Path, elsewhere, text: str) -> None:
    folder = elsewhere("experiment", "evil", text)
    status, _, err = run_cli(folder, "experiment=evil", "model=tiny_bert", f"results_dir={results}")
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert not list(results.rglob("*.json"))


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//b", ".hidden", "a/.b", "", "x\n", None])
def test_a_part_is_named_by_a_plain_name(name: str | None) -> None:
    from peftbench.config import hydra_guard

    with pytest.raises(ConfigError, match="allowed is the name of a file"):
        hydra_guard.check_name("method", name)
    for good in ("lora", "lora/table2_roberta_base", "r2.5", "v3-base"):
        hydra_guard.check_name("method", good)


def test_a_models_own_code_is_not_run_unless_it_is_asked_for(tmp_path: Path, tiny, run_cli: Run) -> None:
    folder = tmp_path / "models" / "evil"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Evil: pass\n")
    for name in ("model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    line = tiny("model=bert_base", "model.checkpoint=evil", f"model_root={tmp_path / 'models'}")
    assert run_cli(*line)[0] == 2
    assert not (tmp_path / "pwned").exists()
    defaults = [compose.one([f"model={name}"]).model.trust_remote_code for name in paths.choices("model")]
    assert not any(defaults)


def test_a_record_cannot_ask_for_a_models_code(cell) -> None:
    described = identity.description(cell().config)
    described["model"]["trust_remote_code"] = True
    assert loading.from_description(described).model.trust_remote_code is False
    assert checkpoints  # What would download it.


SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_AbCd+/EfGhIjKlMnOpQrStUvWxYz0123",
    "MY_PASSWORD": "correct horse battery",
}


def _holding_secrets(root: Path) -> list[str]:
    values = [v.encode() for v in SECRETS.values()] + [b"hf_AbCd%2B%2FEfGh", b"correct%20horse"]
    return [
        f"{file}: {value!r}"
        for file in sorted(root.rglob("*"))
        if file.is_file()
        for value in values
        if value in file.read_bytes()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", "online"])
def test_no_token_reaches_a_file(run_cli: Run, tiny, results: Path, monkeypatch, mode: str) -> None:
    """Planted, then printed, logged and raised by a run, with W&B offline and with a server that isn't there."""
    monkeypatch.syspath_prepend(str(ASSETS))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    line = tiny("method=talks,lora", "recipe.max_steps=8", "logger=wandb", "-m")
    status, out, err = run_cli(f"--config-dir={ASSETS / 'trouble'}", *line)
    assert status == 1
    assert run_cli("report", f"results_dir={results}")[0] == 0
    assert {record.status for _, record in ResultStore(results).scan()} == {"completed", "error"}
    assert any("the key is ***" in file.read_text() for file in results.rglob("run.log"))
    assert not [value for value in SECRETS.values() if value in out + err]
    assert _holding_secrets(results) == []


def test_secrets_are_known_by_their_names_and_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MONKEY", "business as usual")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    for value in SECRETS.values():
        assert redact.redact(f"<{value}>") == "<***>"
    assert redact.redact("https://me:pass@host/x and business as usual, a") == (
        "https://***@host/x and business as usual, a"
    )


def test_a_secret_in_the_configuration_stays_out_of_the_record(train, monkeypatch, results: Path) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])
    record = train("recipe.max_steps=2", "method.summary='${oc.env:HF_TOKEN}'")
    assert record.config["method"]["summary"] == SECRETS["HF_TOKEN"]
    config = compose.one(["model=tiny_bert", "dataset=sst2"])
    file = ResultStore(results).put(config, record)
    assert SECRETS["HF_TOKEN"] not in file.read_text()


def test_a_report_of_a_hostile_record_stays_in_its_folder(results: Path, tmp_path: Path, train) -> None:
    record = train("recipe.max_steps=2").to_dict()
    for group in ("model", "method", "dataset"):
        record["config"][group]["name"] = "../../../pwned"
    record |= {"key": "../../../pwned", "log": "../../../etc/passwd", "changed": ["method.lr=../../x"]}
    file = results / "records" / "x" / "y" / "z" / f"{'0' * 20}.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(record))
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(results)}
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", "report", f"results_dir={results}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(results)} == before
