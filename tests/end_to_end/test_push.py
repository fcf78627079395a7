"""Weights sent to a stand-in of the Hugging Face hub: what comes there, what is refused, and that no token is shown."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from peftbench.results.store import ResultStore
from peftbench.run import push
from peftbench.run.export import write
from tests.helpers import tiny_checkpoints
from tests.helpers.hub_server import Fault, serving
from tests.helpers.hub_uploads import OWNER, TOKEN, UploadHub
from tests.helpers.runs import TINY

#: huggingface_hub sends large files by an argument that its HTTP library wants called otherwise.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = f"{OWNER}/tickets-lora"
HOW = {"merged": False, "private": True, "overwrite": False}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def finished(data_root: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The record of a run of a method."""
    from peftbench import cli

    root = tmp_path_factory.mktemp("results")

    def run(method: str) -> Path:
        folder = root / method
        if not folder.exists():
            words = [f"method={method}", f"data_root={data_root}", f"results_dir={folder}", "measure=false"]
            base = tiny_checkpoints.make(models, data_root, "tiny_bert")
            assert cli.main([*TINY, *base, "recipe.max_steps=3", *words]) == 0
        ((file, _),) = ResultStore(folder).scan()
        return file

    return run


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[UploadHub]:
    (tmp_path / "served").mkdir()
    with serving(UploadHub(tmp_path / "served")) as hub:
        yield hub


@pytest.fixture
def sent(hub: UploadHub, models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """What `send` says in this process, which it asks the stand-in from."""
    for name, value in {"ENDPOINT": hub.address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def send(record: Path, name: str = NAME, **how: Any) -> dict[str, Any]:
        said: list[dict[str, Any]] = []
        push.send(str(record), name, {**HOW, "model_root": str(models), **how}, said.append)
        (one,) = said
        assert TOKEN not in str(one)
        return dict(one["result"])

    return send


def test_what_is_pushed_is_what_export_writes_and_private(
    finished: Callable, hub: UploadHub, models: Path, tmp_path: Path
) -> None:
    """The command, in processes of its own."""
    record = finished("lora")
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    line = [sys.executable, "-m", "peftbench", "push", str(record), NAME, f"model_root={models}"]
    done = subprocess.run(
        line, env={**environment, "HF_HUB_DISABLE_XET": "1"}, capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{hub.address}/{NAME} (private): adapter: README.md, ")
    assert TOKEN not in done.stdout
    assert hub.tokens >= {TOKEN}
    write(str(record), str(tmp_path / "exported"), {"model_root": str(models), "merged": False}, lambda event: None)
    files = (file for file in (tmp_path / "exported").rglob("*") if file.is_file())
    exported = {file.relative_to(tmp_path / "exported").as_posix(): file.read_bytes() for file in files}
    assert "adapter_model.safetensors" in exported
    there = hub.files(NAME)
    assert set(there) == set(exported)
    # These two differ by a set's order, and by whether the process that wrote them was offline.
    alike = set(there) - {"adapter_config.json", "tokenizer_config.json"}
    assert {name: there[name] for name in alike} == {name: exported[name] for name in alike}
    assert json.loads(there["adapter_config.json"])["base_model_name_or_path"] == "google-bert/bert-base-uncased"
    assert hub.private == {f"models/{NAME}"}
    assert hub.subjects == [f"lora on bert_base, trained on sst2 (peftbench, run {record.stem})"]


def test_a_pushed_model_answers_as_the_run_did(
    finished: Callable, hub: UploadHub, sent: Callable, data_root: Path
) -> None:
    """What lies on the stand-in, in plain transformers."""
    record = finished("lora")
    said = sent(record, merged=True, private=False)
    assert (said["kind"], said["private"], hub.private) == ("model", False, set())
    got = hub.repository(f"models/{NAME}").commits[said["commit"]]
    model = AutoModelForSequenceClassification.from_pretrained(got).eval()
    tokenizer = AutoTokenizer.from_pretrained(got)
    (rows,) = (record.parents[4] / "predictions").rglob("*.parquet")
    table = pq.read_table(rows).to_pandas().query("split == 'validation'")
    texts = pq.read_table(next((data_root / "glue" / "sst2").glob("validation*"))).column("sentence").to_pylist()
    with torch.inference_mode():
        scores = [
            model(**tokenizer(texts[row], truncation=True, max_length=48, return_tensors="pt")).logits[0].numpy()
            for row in table["row"]
        ]
    assert np.allclose(scores, np.stack(table["scores"]), atol=1e-5)


def test_what_is_there_is_replaced_only_if_asked(finished: Callable, hub: UploadHub, sent: Callable) -> None:
    record = finished("lora")
    assert "problem" not in sent(record)
    before = hub.files(NAME)
    assert sent(record, merged=True)["problem"] == (
        f"push: {NAME} holds {len(before)} files; overwrite=true replaces them by a commit, or name another"
    )
    assert hub.files(NAME) == before
    assert sent(record, merged=True, overwrite=True)["kind"] == "model"
    assert "adapter_model.safetensors" not in hub.files(NAME)
    assert "base/config.json" in before
    assert "base/config.json" not in hub.files(NAME)
    assert "model.safetensors" in hub.files(NAME)


def test_a_public_repository_takes_nothing_that_is_to_be_private(
    finished: Callable, hub: UploadHub, sent: Callable
) -> None:
    hub.make(NAME, private=False)
    assert sent(finished("lora"))["problem"] == (f"push: {NAME} is there and public: private=true doesn't change that")
    assert hub.files(NAME) == {}
    assert "problem" not in sent(finished("lora"), private=False)
    assert hub.files(NAME)


@pytest.mark.parametrize(
    ("token", "name", "message"),
    [
        ("", NAME, "push: no token: set HF_TOKEN to one that may write, or log in by `hf auth login`"),
        ("hf_readsreadsreadsreads1", NAME, "the hub doesn't take the token (401)"),
        (TOKEN, "nobody/tickets", "the hub refuses it to this account (403)"),
    ],
)
def test_who_may_not_write_leaves_nothing(
    finished: Callable, hub: UploadHub, sent: Callable, monkeypatch: pytest.MonkeyPatch, token: str, name: str,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nowhere")
    monkeypatch.setenv("HF_TOKEN", token)
    said = sent(finished("lora"), name)["problem"]
    assert message in said
    assert token == "" or token not in said
    assert hub.repositories == {}


def test_a_hub_in_trouble_is_no_mistake_of_the_line(finished: Callable, hub: UploadHub, sent: Callable) -> None:
    hub.faults.append(Fault("/commit/", 500, method="POST"))
    assert sent(finished("lora"))["failed"] == f"push: {NAME}: the hub answers 500: try again later"
    assert hub.files(NAME) == {}
    hub.faults.clear()
    assert sent(finished("lora"))["kind"] == "adapter"  # The repository that was made is used.


def test_what_plain_peft_cannot_load_is_not_sent(finished: Callable, hub: UploadHub, sent: Callable) -> None:
    assert "push: houlsby is a tuner of peftbench" in sent(finished("houlsby"))["problem"]
    assert hub.repositories == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["push"], "push: takes a record and a name on the hub"),
        (["push", "a.json"], "push: takes a record and a name on the hub"),
        (["push", "a.json", "tickets"], "push: tickets: allowed is a name on the hub, OWNER/NAME"),
        (["push", "a.json", "https://host/me/x"], "allowed is a name on the hub, OWNER/NAME"),
        (["push", "a.json", "me/x", "private=maybe"], "private=maybe: allowed is true or false"),
        (["push", "a.json", "me/x", "public=true"], "push: takes a record and a name on the hub"),
        (["push", "a.json", "me/x"], "push: HF_HUB_OFFLINE says that the hub isn't to be asked"),
    ],
)
def test_bad_words_are_one_line(run_cli: Callable, words: list[str], message: str) -> None:
    status, _, err = run_cli(*words)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert message in err
