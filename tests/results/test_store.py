"""Records: written once, whole, read back as they were."""

import dataclasses
import json
import multiprocessing
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import identity, paths, types
from peftbench.errors import ConfigError
from peftbench.results import announcements
from peftbench.results.folders import Folder
from peftbench.results.key import run_key
from peftbench.results.records import RecordError, RunRecord, from_dict
from peftbench.results.store import ResultStore, read
from peftbench.run.prepared import PreparedRun
from tests.helpers.composed import composed

CONFIG = identity.description(composed(["model=tiny_bert"]))


def record(key: str, status: str = "completed", **more: object) -> RunRecord:
    return RunRecord(key=key, status=status, config=CONFIG, **{"score": 0.5, **more})  # type: ignore[arg-type]


def believable(config: types.RunConfig) -> RunRecord:
    """A completed record whose key is right."""
    key = run_key(config, data="d", model="m")
    environment = {"data_fingerprint": "d", "model_fingerprint": "m"}
    config = dataclasses.replace(config, results_dir="")
    return RunRecord(
        key=key, status="completed", config=identity.description(config), score=0.5, environment=environment
    )


@pytest.fixture
def config(cell: Callable[..., PreparedRun]) -> types.RunConfig:
    return cell().config


class TestPut:
    def test_a_record_comes_back_as_it_was(self, config, results: Path) -> None:
        kept = record("k", score=0.5, metrics={"train": None}, environment={"gpu": []})
        file = ResultStore(results).put(config, kept)
        assert read(file) == kept
        assert [path for path, _ in ResultStore(results).scan()] == [file]

    def test_written_once(self, config, results: Path) -> None:
        store = ResultStore(results)
        store.put(config, record("k", score=0.5))
        file = store.put(config, record("k", score=0.9))
        assert read(file).score == 0.5
        file = store.put(dataclasses.replace(config, overwrite=True), record("k", score=0.9))
        assert read(file).score == 0.9

    def test_failures_are_numbered_and_no_completion(self, config, results: Path) -> None:
        store = ResultStore(results)
        files = [store.put(config, record("k", "error", error=str(i))) for i in range(12)]
        assert store.failures(config, "k") == files
        assert files[11].name == "k.failed-12.json"
        assert not store.completed(config, "k")

    def test_nothing_half_written_is_left(self, config, results: Path) -> None:
        store = ResultStore(results)
        with pytest.raises(ValueError, match="JSON"):
            store.put(config, record("k", score=float("nan")))
        assert list(results.rglob("*.json")) + list(results.rglob("*.tmp")) == []

    def test_many_writers_of_one_folder(self, config, results: Path) -> None:
        fork = multiprocessing.get_context("fork")
        writers = [fork.Process(target=_write, args=(results, config, i)) for i in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = [r for _, r in ResultStore(results).scan()]
        assert len([r for r in found if r.status == "completed"]) == 4 * 25 + 1
        assert len([r for r in found if r.status == "error"]) == 4
        assert not [r for r in found if isinstance(r, RecordError)]

    @pytest.mark.slow
    def test_eight_writers_of_a_hundred_records_each(self, config, results: Path) -> None:
        fork = multiprocessing.get_context("fork")
        writers = [fork.Process(target=_write, args=(results, config, i, 100)) for i in range(8)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = {file.stem: r for file, r in ResultStore(results).scan()}
        assert all(found[f"{writer}-{i}"] == record(f"{writer}-{i}") for writer in range(8) for i in range(100))
        # And one that all of them wrote, and each its own failed try of another.
        assert len(found) == 800 + 1 + 8
        assert not list(results.rglob("*.tmp"))

    @pytest.mark.parametrize("there", ["half", "newer", "another run", "folder"])
    def test_what_has_the_name_of_a_run_stays_and_the_run_is_recorded_beside_it(
        self, config, results: Path, there: str
    ) -> None:
        store, right = ResultStore(results), believable(config)
        file = store.put(config, right)
        whole = file.read_text()
        newer = whole.replace('"schema_version": 1', '"schema_version": 2')
        text = {"half": whole[:50], "newer": newer, "another run": whole.replace('"seed": 0', '"seed": 7')}.get(there)
        file.unlink()
        file.mkdir() if text is None else file.write_text(text)
        assert not store.completed(config, right.key)
        beside = store.put(config, dataclasses.replace(right, score=0.7))
        assert beside.name == f"{right.key}.beside-1.json"
        assert read(beside).score == 0.7
        assert file.is_dir() if text is None else file.read_text() == text
        assert store.completed(config, right.key)
        assert store.record_file(config, right.key) == beside
        assert ResultStore.weights_of(beside) == store.places(config, right.key).adapter
        # Its own name is no longer looked at by another put, and overwriting replaces no stranger's file.
        again = dataclasses.replace(config, overwrite=True)
        assert read(store.put(again, dataclasses.replace(right, score=0.9))).score == 0.9
        assert sorted(f.name for f in file.parent.iterdir()) == sorted([file.name, beside.name])

    @pytest.mark.parametrize("altered", ["key", "seed", "data_fingerprint", "status", "name"])
    def test_a_record_is_believed_if_key_name_and_contents_agree(self, config, results: Path, altered: str) -> None:
        store, right = ResultStore(results), believable(config)
        file = store.put(config, right)
        assert store.completed(config, right.key)
        value = right.to_dict()
        if altered == "name":
            other = dataclasses.replace(config, seed=7)
            key = run_key(other, data="d", model="m")
            store.record_file(other, key).write_text(file.read_text())
            assert not store.completed(other, key)
            return
        if altered == "data_fingerprint":
            value["environment"]["data_fingerprint"] = "another"
        elif altered == "seed":
            value["config"]["seed"] = 7
        else:
            value[altered] = {"key": "0" * 20, "status": "error"}[altered]
        file.write_text(json.dumps(value))
        assert not store.completed(config, right.key)
        ended = results / "unfinished" / right.key / "record.json"
        ended.parent.mkdir(parents=True)
        ended.write_text(json.dumps(value))
        assert store.ended(config, right.key) is None
        ended.write_text(json.dumps(right.to_dict()))
        assert store.ended(config, right.key) == right

    def test_a_note_under_another_name_leaves_no_run_out(self, config, results: Path) -> None:
        store = ResultStore(results)
        store.put_not_applicable(config, "a", "why")
        file = store.record_file(config, "a").with_name("a.not-applicable.json")
        file.rename(file.with_name("b.not-applicable.json"))
        assert not store.left_out(config, "b")

    def test_a_copied_try_is_no_try(self, config, results: Path) -> None:
        store = ResultStore(results)
        file = store.put(config, record("k", "error"))
        for name in ("k.failed-1 (copy).json", "k.failed-.json", "k.failed-\u00b2.json", "k.failed-9999999999.json"):
            file.with_name(name).write_text("{}")
        assert store.failures(config, "k") == [file]
        planned = announcements.ExpectedRecord("r", str(file.relative_to(results)).replace(".failed-1", ""), "n")
        tried = announcements.ended(results, planned, 0)
        assert tried is not None
        assert (tried.key, tried.status) == ("k", "error")

    def test_without_hard_links(self, config, results: Path, monkeypatch) -> None:
        def refused(*_: object) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", refused)
        store = ResultStore(results)
        store.put(config, record("k", score=0.5))
        assert read(store.put(config, record("k", score=0.9))).score == 0.5
        assert [file.name for file in results.rglob("*") if file.is_file()] == ["k.json"]

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigError, match="results_dir=.*can't be written"):
            ResultStore(tmp_path / "file" / "results").check_writable()

    @pytest.mark.parametrize("name", Folder)
    @pytest.mark.parametrize("below", [".", Folder.TRIALS])
    @pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere/at/all")])
    def test_what_is_no_folder_where_one_must_be(self, results: Path, name: str, below: str, make: Any) -> None:
        (results / below).mkdir(parents=True)
        make(results / below / name)
        with pytest.raises(ConfigError, match=f"^results_dir=.*: .*{name} must be a folder: can't be written"):
            ResultStore(results).check_writable()

    @pytest.mark.parametrize("name", [Folder.RECORDS, Folder.PREDICTIONS, Folder.ADAPTERS])
    def test_a_runs_own_folder_that_is_none(self, config, results: Path, name: str) -> None:
        cell = results / name / config.dataset.name / config.model.name
        ResultStore(results).check_writable([config])
        assert not list(results.iterdir()), "nothing is left behind"
        cell.parent.mkdir(parents=True)
        cell.touch()
        with pytest.raises(ConfigError, match=f"{config.model.name} must be a folder"):
            ResultStore(results).check_writable([config])

    def test_every_folder_that_is_written_is_known(self, config, results: Path) -> None:
        store = ResultStore(results)
        places = store.places(config, "k")
        files = [*dataclasses.asdict(places).values(), store.record_file(config, "k")]
        assert {file.relative_to(results).parts[0] for file in files} <= {*Folder}
        text = (paths.CONF / "config.yaml").read_text()
        assert set(re.findall(r"\$\{results_dir\}/(\w+)", text)) == {Folder.LOGS}


def _write(results: Path, config: types.RunConfig, writer: int, count: int = 25) -> None:
    store = ResultStore(results)
    for i in range(count):
        store.put(config, record(f"{writer}-{i}"))
    store.put(config, record("same"))
    store.put(config, record("failed", "error"))


class TestClaim:
    def test_one_owner_at_a_time(self, results: Path) -> None:
        with ResultStore(results).claim("k") as first, ResultStore(results).claim("k") as second:
            assert (first, second) == (True, False)
        with ResultStore(results).claim("k") as again:
            assert again

    def test_a_dead_owner_owns_nothing(self, results: Path) -> None:
        fork = multiprocessing.get_context("fork")
        ready = fork.Event()
        owner = fork.Process(target=_hold, args=(results, ready))
        owner.start()
        ready.wait(10)
        with ResultStore(results).claim("k") as owned:
            assert not owned
        owner.kill()
        owner.join()
        with ResultStore(results).claim("k") as owned:
            assert owned


def _hold(results: Path, ready) -> None:
    with ResultStore(results).claim("k"):
        ready.set()
        import time

        time.sleep(60)


class TestRead:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "not whole JSON"),
            ('{"key": "k", "status": "comp', "not whole JSON"),
            ("[]", "not a JSON object"),
            ('{"schema_version": 99}', "schema_version 99"),
            ('{"schema_version": 1, "key": "k"}', "missing"),
            ('{"schema_version": 1, "key": "k", "status": "won", "config": {}}', "status 'won' is none of"),
            ('{"schema_version": 1, "key": "k", "status": "completed", "config": {}, "x": 1}', "unexpected"),
            ('{"schema_version": 1, "key": "k", "status": "completed", "config": {}}', "config.model.name is missing"),
        ],
    )
    def test_what_is_no_record_says_why(self, tmp_path: Path, text: str, reason: str) -> None:
        file = tmp_path / "r.json"
        file.write_text(text)
        error = read(file)
        assert isinstance(error, RecordError)
        assert reason in str(error)

    def test_the_schema_is_read_back_whole(self) -> None:
        kept = record("k", footnotes=["a"], params={"head": 1})
        assert from_dict(json.loads(json.dumps(kept.to_dict()))) == kept


def test_no_place_and_no_secret_in_a_record(train, monkeypatch, results: Path) -> None:
    for name in ("WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "planted-secret")
    text = json.dumps(train("recipe.max_steps=2").to_dict())
    assert "planted-secret" not in text
    assert str(results) not in text
    assert os.uname().nodename not in text
