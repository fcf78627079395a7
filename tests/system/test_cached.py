"""Cache entries: named by all that decides them, verified when read, made anew when they don't hold."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench.data import encode, sources
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.system import cached, files, fingerprint
from peftbench.tasks.table import build as build_task
from tests.helpers.runs import write_split


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    file = tmp_path / "cache" / "entry.bin"
    cached.write(file, lambda temporary: temporary.write_bytes(b"0123456789"))
    return file


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _flip(file: Path) -> None:
    """One bit, with size and time of change as they were."""
    before, whole = file.stat(), bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1
    file.write_bytes(whole)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


DAMAGES = [_cut, _empty, _flip, Path.unlink]


class TestEntry:
    def test_it_is_read_as_it_was_written(self, entry: Path) -> None:
        assert cached.read(entry, Path.read_bytes) == b"0123456789"
        assert cached.beside(entry).read_text() == f"{fingerprint.of_file(entry)}  entry.bin\n"
        assert sorted(file.name for file in entry.parent.iterdir()) == ["entry.bin", "entry.bin.sha256"]

    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("which", [lambda entry: entry, cached.beside], ids=["entry", "checksum"])
    def test_what_does_not_hold_counts_as_missing(self, entry: Path, damage: Callable, which: Callable) -> None:
        assert cached.holds(entry)  # Whatever was remembered of it then.
        if (damage, which) == (_cut, cached.beside):
            damage = _empty  # Its last byte is a line's end.
        if (damage, which) == (_flip, cached.beside):
            cached.beside(entry).write_text("0" * 64 + "  entry.bin\n")
        else:
            damage(which(entry))
        assert cached.read(entry, lambda _: pytest.fail("it was read")) is None
        cached.write(entry, lambda temporary: temporary.write_bytes(b"anew"))
        assert cached.read(entry, Path.read_bytes) == b"anew"

    def test_a_write_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            cached.write(tmp_path / "entry", lambda temporary: 1 // 0)
        assert not list(tmp_path.iterdir())

    def test_reading_notes_the_use(self, entry: Path) -> None:
        os.utime(cached.beside(entry), (1, 1))
        assert cached.holds(entry)
        assert cached.beside(entry).stat().st_mtime > 1


def test_caches_and_studies_are_left_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    really = files.sync
    monkeypatch.setattr(files, "sync", lambda path: (synced.append(path.name), really(path)))
    sources.content_named({"train": pa.table({"text": ["a"]})}, tmp_path)
    ResultStore(tmp_path).put_tuning("k", {"trials": 1})
    for name in ("0-train.parquet", "k.json"):
        assert [file for file in synced if file.startswith(f".{name}.")], name
        assert [file for file in synced if file.startswith(f".{name}.sha256.")], name


def test_a_study_that_does_not_hold_is_none(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.put_tuning("k", {"trials": 1})
    assert store.tuning("k") == {"trials": 1}
    _cut(next((tmp_path / "trials" / "studies").glob("*.json")))
    assert store.tuning("k") is None


class TestTokens:
    @pytest.fixture
    def module(self, cell: Callable[..., PreparedRun], results: Path) -> Callable[..., TaskDataModule]:
        def make(*more: str, swap: bool = False) -> TaskDataModule:
            found = cell(*more)
            source, files = found.source, found.source.files
            if swap:  # The same fingerprint for other roles.
                files = {"train": files["validation"], "validation": files["train"]}
                source = dataclasses.replace(source, files=files)
            task = build_task(found.config)
            tokenizer = backbones.load_tokenizer(found.config.model, found.checkpoint)
            made = TaskDataModule(
                found.config, task, tokenizer, source=source, tokenizer_fingerprint="t", cache=results / "cache"
            )
            made.setup()
            return made

        return make

    def _entries(self, results: Path) -> list[Path]:
        return sorted((results / "cache" / "tokens").glob("*.safetensors"))

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_set_is_made_anew(self, module: Callable[..., TaskDataModule], results: Path, damage) -> None:
        first = module()
        assert self._entries(results)
        for file in self._entries(results):
            damage(file)
        again = module()
        assert torch.equal(again.train.tokens, first.train.tokens)
        assert all(cached.holds(file) for file in self._entries(results))

    def test_flipped_labels_are_noticed(self, module: Callable[..., TaskDataModule], results: Path) -> None:
        first = module()
        for file in self._entries(results):
            tensors = load_file(file)
            save_file({**tensors, "labels": 1 - tensors["labels"]}, file)
        again = module()
        for name in ("train", "validation"):
            assert torch.equal(again.slices[name].labels, first.slices[name].labels)

    def test_other_code_reads_none_of_it(self, module, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        module()
        before = len(self._entries(results))
        module()
        assert len(self._entries(results)) == before
        monkeypatch.setattr(encode, "code", lambda: ["another"])
        module()
        assert len(self._entries(results)) == 2 * before

    def test_contents_tell_sets_apart_where_the_fingerprint_does_not_say_which_file_is_which(
        self, module: Callable[..., TaskDataModule], tmp_path: Path
    ) -> None:
        for split, word in (("train", "good"), ("validation", "poor")):
            columns = {"sentence": [f"{word} {i}" for i in range(20)], "label": [0, 1] * 10}
            write_split(tmp_path / "glue" / "sst2", split, columns)
        plain, swapped = (module(f"data_root={tmp_path}", swap=swap) for swap in (False, True))
        assert torch.equal(plain.slices["validation"].rows, swapped.slices["validation"].rows)
        assert not torch.equal(plain.slices["validation"].tokens, swapped.slices["validation"].tokens)


class TestTables:
    def _located(self, cell: Callable[..., PreparedRun]) -> DataSource:
        return cell("dataset=demo").source

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_table_is_made_anew(self, cell: Callable[..., PreparedRun], damage) -> None:
        source = self._located(cell)
        rows = sources.read(source, "train", ["sentence", "label"])
        damage(Path(source.files["train"][0]))
        again = self._located(cell)
        assert sources.read(again, "train", ["sentence", "label"]) == rows

    def test_flipped_labels_are_noticed(self, cell: Callable[..., PreparedRun]) -> None:
        source = self._located(cell)
        rows = sources.read(source, "train", ["label"])
        file = Path(source.files["train"][0])
        table = pq.read_table(file, partitioning=None)
        flipped = pa.array([1 - label for label in table.column("label").to_pylist()])
        pq.write_table(table.set_column(1, "label", flipped), file)
        with pytest.raises(ConfigError, match="was changed after"):  # A run that had been prepared.
            sources.read(source, "train", ["label"])
        assert sources.read(self._located(cell), "train", ["label"]) == rows

    def test_the_same_values_of_another_type_are_another_table(self, tmp_path: Path) -> None:
        given = [pa.array([1, 2], kind) for kind in (pa.int32(), pa.int64())]
        located = [sources.content_named({"train": pa.table({"a": values})}, tmp_path) for values in given]
        assert [sources.read(source, "train", ["a"]).column("a").type for source in located] == [pa.int32(), pa.int64()]
        assert located[0].fingerprint == located[1].fingerprint  # Part of published keys.

    def test_a_file_that_changes_after_it_was_found_is_not_read_under_its_name(
        self, cell: Callable[..., PreparedRun], tmp_path: Path
    ) -> None:
        for split in ("train", "validation"):
            file = write_split(tmp_path / "glue" / "sst2", split, {"sentence": ["a", "b"], "label": [0, 1]})
        found = cell(f"data_root={tmp_path}")
        write_split(tmp_path / "glue" / "sst2", "validation", {"sentence": ["a", "b"], "label": [1, 0]})
        with pytest.raises(ConfigError, match=f"{file.name}: was changed after"):
            sources.read(found.source, "validation", ["label"])


def test_a_files_hash_follows_changes_that_keep_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"ab")
    before = fingerprint.of_file(file)
    _flip(file)
    assert fingerprint.of_file(file) != before
