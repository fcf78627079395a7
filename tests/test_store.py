"""Records: written once, whole, read back as they were."""

import dataclasses
import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from composed import composed

from peftbench import fingerprint, records, schema
from peftbench.errors import ConfigError
from peftbench.job import Cell
from peftbench.records import RecordError, RunRecord, from_dict, run_key
from peftbench.store import ResultStore, read

CONFIG = {"seed": 0, **{group: {"name": group} for group in ("model", "method", "dataset")}}


def record(key: str, status: str = "completed", **more: object) -> RunRecord:
    return RunRecord(key=key, status=status, config=CONFIG, **{"score": 0.5, **more})  # type: ignore[arg-type]


@pytest.fixture
def config(cell: Callable[..., Cell]) -> schema.RunConfig:
    return cell().config


class TestKey:
    def _key(self, *overrides: str, data: str = "d", model: str = "m") -> str:
        return run_key(composed(overrides), data=data, model=model)

    @pytest.mark.parametrize(
        "override",
        ["seed=1", "method.lr=0.5", "method.adapter.r=4", "recipe.epochs=7", "hardware=cpu_bf16", "dataset=sst2",
         "model=bert_base", "hardware.threads=1", "dataset.carve.seed=9", "formulation=head", "method=full"],
    )  # fmt: skip
    def test_what_decides_the_result_changes_it(self, override: str) -> None:
        assert self._key(override) != self._key()

    @pytest.mark.parametrize(
        "override",
        ["results_dir=x", "data_root=y", "model_root=z", "logger=csv", "overwrite=true", "save_adapters=false"],
    )
    def test_places_and_sinks_do_not(self, override: str) -> None:
        assert self._key(override) == self._key()

    def test_inputs_and_protocol_change_it(self, monkeypatch) -> None:
        key = self._key()
        assert self._key(data="e") != key
        assert self._key(model="n") != key
        monkeypatch.setitem(records.PROTOCOL, "head", records.PROTOCOL["head"] + 1)
        assert self._key() != key

    def test_a_new_null_field_invalidates_nothing(self) -> None:
        identity = schema.identity(composed([]))
        assert None not in identity["recipe"].values()
        assert "max_steps" not in identity["recipe"]

    def test_seed_zero_is_a_seed(self) -> None:
        assert schema.identity(composed(["seed=0"]))["seed"] == 0

    def test_key_order_is_irrelevant(self) -> None:
        assert fingerprint.of_json({"a": 1, "b": 2}) == fingerprint.of_json({"b": 2, "a": 1})


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

    def test_a_corrupt_file_is_no_completed_run_and_gives_way(self, config, results: Path) -> None:
        store = ResultStore(results)
        file = store.put(config, record("k"))
        file.write_text(file.read_text()[:50])
        assert not store.completed(config, "k")
        assert read(store.put(config, record("k", score=0.7))).score == 0.7
        assert file.with_name("k.json.corrupt").exists()

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


def _write(results: Path, config: schema.RunConfig, writer: int, count: int = 25) -> None:
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
