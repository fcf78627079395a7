"""What goes wrong between here and the hub is one line, in seconds, and leaves nothing half behind."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.composed import written
from tests.helpers.hub_client import TOKEN
from tests.helpers.hub_server import SIGNATURE, Fault, Hub

SST2 = ("dataset=sst2", "model=tiny_bert")

FAILURES: dict[str, tuple[list[Fault], tuple[str, ...], str]] = {
    "a token that isn't taken": ([Fault("nyu-mll", "invalid")], SST2, r"doesn't take the token \(401\).*hf auth login"),
    "private or not there": ([Fault("nyu-mll", "repository")], SST2, "dataset.path=nyu-mll/glue: .* or it is private"),
    "gated": ([Fault("nyu-mll", "gated")], SST2, "it is gated: .*hf auth login"),
    "gated files": ([Fault("resolve", "gated")], SST2, "it is gated: .*hf auth login"),
    "refused": ([Fault("nyu-mll", 403)], SST2, r"refuses it to this account \(403\)"),
    "not there": ([Fault("nyu-mll", 404)], SST2, r"doesn't have it \(404\)"),
    "too many requests": ([Fault("nyu-mll", 429)], SST2, r"too many requests \(429\).*asks to wait 300 s"),
    "too many files": ([Fault("resolve", 429)], SST2, r"too many requests \(429\).*asks to wait 300 s"),
    "a broken hub": ([Fault("nyu-mll", 500)], SST2, "the hub answers 500: try again later"),
    "a broken store": ([Fault("cdn", 503)], SST2, "the hub answers 503: try again later"),
    "a cut download": ([Fault("cdn", "cut")], SST2, "the connection was cut, 3 times"),
    "a stalled download": ([Fault("cdn", "stall")], SST2, "nothing came for 2 s, 3 times"),
    "no such revision": ([], (*SST2, "dataset.revision=v9"), "dataset.revision=v9: .*no such revision"),
    "no such config": ([], (*SST2, "dataset.config=sst3"), "dataset.config=sst3: .* has no sst3/validation-.*sst2/"),
    "no name": ([], (*SST2, "dataset.path=a/b/c"), "dataset.path=a/b/c: .*neither a name on the hub"),
    "a model": ([Fault("bert-base", "gated")], ("dataset=demo", "model=bert_base"), "model=bert_base: .*gated"),
    "no such model": ([], ("dataset=demo", "model=gpt2"), "model.checkpoint=.*gpt2: .*doesn't have it"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_one_line_in_seconds(hub: Hub, cli: Callable, look: Callable, tmp_path: Path, name: str) -> None:
    faults, arguments, says = FAILURES[name]
    hub.faults[:] = faults
    start = time.monotonic()
    done = cli(*arguments)
    assert time.monotonic() - start < 40  # Of which importing and composing are a few.
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert re.search("point (data|model)_root= at a folder that holds", done.stderr)
    assert not any(secret in done.stdout + done.stderr for secret in (TOKEN, SIGNATURE))
    assert TOKEN in hub.tokens
    assert not list((tmp_path / "results").glob("records/**/*.json"))
    assert not list((tmp_path / "home").rglob("*.incomplete"))
    hub.faults.clear()
    if any(fault.where == "cdn" for fault in faults):
        _, rows = look("dataset=sst2")["dataset=sst2"]
        assert [len(rows[split]) for split in ("train", "validation")] == [48, 24]


def test_a_download_that_is_cut_now_and_then_goes_on(hub: Hub, look: Callable) -> None:
    hub.faults[:] = [Fault("cdn", "cut", times=2)]
    _, rows = look("dataset=sst2")["dataset=sst2"]
    assert len(rows["train"]) == 48


def test_a_hub_that_is_away_is_said_at_once(cli: Callable) -> None:
    start = time.monotonic()
    done = cli(*SST2, HF_ENDPOINT="http://127.0.0.1:9")
    assert time.monotonic() - start < 20
    assert done.returncode == 2
    assert re.fullmatch(r"peftbench: dataset=sst2: .* the hub can't be reached; .*use dataset=demo\n", done.stderr)


@pytest.mark.parametrize("home", ["/dev/null/home", "a file"])
def test_a_cache_that_cannot_be_written(cli: Callable, tmp_path: Path, home: str) -> None:
    (tmp_path / "a file").touch()
    done = cli(*SST2, HF_HOME=home if home.startswith("/") else str(tmp_path / home))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.search(r"the hub's cache .* can't be written to.*HF_HOME=DIR", done.stderr)


def test_a_full_disk(hub: Hub, cli: Callable, tmp_path: Path) -> None:
    """A limit on the size of files in the place of a disk without room: the same error, but for its number."""
    model = tmp_path / "large"
    model.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (model / name).write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(4 << 20))
    hub.repository("models/FacebookAI/roberta-base").add("main", model, written("model")["roberta_base"]["revision"])
    done = cli("dataset=demo", "model=roberta_base", before="ulimit -f 2000;")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "the disk of the hub's cache is full; HF_HOME=DIR puts it elsewhere" in done.stderr
    assert not [file for file in (tmp_path / "home").rglob("*") if file.is_file() and file.stat().st_size > 1 << 20]


def test_ctrl_c_ends_a_download_soon(hub: Hub, environment: dict[str, str], tmp_path: Path) -> None:
    hub.faults[:] = [Fault("cdn", "stall")]
    command = [sys.executable, "-m", "peftbench", *SST2, "method=bitfit", f"results_dir={tmp_path / 'results'}"]
    patient = {**environment, "HF_HUB_DOWNLOAD_TIMEOUT": "6"}
    process = subprocess.Popen(command, env=patient, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any("cdn" in request for request in hub.requests) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, text = process.communicate(timeout=60)
    assert time.monotonic() - start < 14  # One wait, not three.
    assert process.returncode == 130
    assert text == "peftbench: stopped; the same line goes on from here\n"
