"""A served hub, and processes that ask it: for tests of the hub's data and of its failures."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.composed import written
from tests.helpers.hub_layouts import serve_all
from tests.helpers.hub_server import Hub, serving

TOKEN = "hf_0123456789secret"
BERT = "models/google-bert/bert-base-uncased"

#: Prints, for data sets and models by name, where they are, what identifies them and what is in them.
LOOK = """
import json, sys
from pathlib import Path
from peftbench.config import compose
from peftbench.models import checkpoints
from peftbench.data import sources
from peftbench.errors import ConfigError
for words in sys.argv[2:]:
    usual = [group for group in ("model=tiny_bert", "dataset=demo") if group.split("=")[0] + "=" not in words]
    config = compose.one([*usual, *words.split()])
    try:
        if config.model.checkpoint:
            found = checkpoints.locate(config.model, None)
            print(json.dumps([words, found.fingerprint, sorted(file.name for file in Path(found.folder).iterdir())]))
        else:
            found = sources.locate(config.dataset, data_root=None, cache=Path(sys.argv[1]))
            texts = [*config.dataset.text, config.dataset.answers or config.dataset.label]
            rows = {split: sources.read(found, split, [name for name in texts if name]) for split in found.files}
            rows = {split: json.loads(table.to_pandas().to_json(orient="values")) for split, table in rows.items()}
            print(json.dumps([words, found.fingerprint, rows]))
    except ConfigError as error:
        print(json.dumps([words, "error", str(error)]))
"""


@pytest.fixture
def hub(served: Hub) -> Iterator[Hub]:
    """The served hub, without what the test before did to it."""
    names = {name: dict(repository.names) for name, repository in served.repositories.items()}
    served.faults.clear()
    served.requests.clear()
    yield served
    served.faults.clear()
    for name, known in names.items():
        served.repositories[name].names = known


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("served")
    with serving() as hub:
        serve_all(hub, root)
        model = root / "bert"
        (model / "onnx").mkdir(parents=True)
        for name in ("config.json", "tokenizer.json", "vocab.txt", "README.md", "onnx/config.json", "modeling.py"):
            (model / name).write_text("{}")
        for name in ("model.safetensors", "pytorch_model.bin", "onnx/model.safetensors"):
            (model / name).write_bytes(b"weights of " + name.encode())
        hub.repository(BERT).add("main", model, written("model")["bert_base"]["revision"])
        yield hub


@pytest.fixture
def environment(hub: Hub, tmp_path: Path) -> dict[str, str]:
    away = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "PEFTBENCH_DATA_ROOT", "TRANSFORMERS_OFFLINE")
    mine = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DOWNLOAD_TIMEOUT": "2",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    return {**{name: value for name, value in os.environ.items() if name not in away}, **mine}


@pytest.fixture
def look(environment: dict[str, str], tmp_path: Path) -> Callable[..., dict[str, tuple[str, Any]]]:
    """In a fresh process: by what was asked for, its fingerprint and contents. Nothing else may be printed but one line
    a download."""

    def start(*asked: str, **more: str) -> dict[str, tuple[str, Any]]:
        command = [sys.executable, "-c", LOOK, str(tmp_path / "cache"), *asked]
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        line = re.compile(r"downloading [\w./-]+ \([\d.,]+ (bytes|[kM]B)\)")
        lines = [text for text in done.stdout.splitlines() if not line.fullmatch(text)]
        return {words: (name, rows) for words, name, rows in map(json.loads, lines)}

    return start


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def start(*arguments: str, before: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        words = ["method=bitfit", f"results_dir={tmp_path / 'results'}", *arguments]
        command = ["bash", "-c", f'{before} exec "$@"', "-", sys.executable, "-m", "peftbench", *words]
        return subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=120)

    return start
