"""The index of a results folder: what a report reads with it is what it reads without."""

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from peftbench.config import paths
from peftbench.results import index, reading
from peftbench.results.records import RecordError
from peftbench.results.report import load, render_csv, stats
from peftbench.results.store import ResultStore
from peftbench.system import cached
from tests.helpers.boards import made
from tests.helpers.composed import composed

RUNS = [("lora", "sst2", 0), ("lora", "sst2", 1), ("lora", "rte", 0), ("full", "sst2", 0), ("full", "rte", 0)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of a few records, of which an index is kept at once."""
    monkeypatch.setattr(index, "WORTH", 2)
    monkeypatch.setattr(index, "SETTLED_NS", -60_000_000_000)
    for i, (method, dataset, seed) in enumerate(RUNS):
        _put(tmp_path, 0.5 + i / 100, method, dataset, seed)
    return tmp_path


def _put(root: Path, score: float, method: str, dataset: str, seed: int) -> Path:
    words = [f"method={method}", f"dataset={dataset}", f"seed={seed}"]
    record = made(score, *words, environment={"cpu": "c", "threads": 2, "packages": {"torch": "2"}})
    record.key = reading.key_of(record)
    return ResultStore(root).put(composed(["model=tiny_bert", *words]), record)


def _file(root: Path) -> Path:
    return root / "cache" / index._FILE


def _said(root: Path) -> tuple[object, ...]:
    """All that a report may say of a folder."""
    results = load.load(root)
    lists = [sorted(json.dumps(r.to_dict()) for r in rs) for rs in (results.completed, results.failed)]
    return *lists, results.unreadable, results.doubtful, render_csv.render(stats.leaderboard(results))


def _without(root: Path) -> tuple[object, ...]:
    shutil.rmtree(root / "cache", ignore_errors=True)
    return _said(root)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read as records."""
    files: list[Path] = []
    monkeypatch.setattr(index, "read", lambda file: (files.append(file), reading.read(file))[1])
    return files


def test_a_later_report_reads_no_record_and_says_the_same(root: Path, reads: list[Path]) -> None:
    first = _said(root)
    assert len(reads) == len(RUNS)
    assert _file(root).is_file()
    written = _file(root).stat()
    assert _said(root) == first
    assert len(reads) == len(RUNS)
    assert _file(root).stat().st_ino == written.st_ino, "nothing changed: not written again"
    assert _without(root) == first
    assert len(reads) == 2 * len(RUNS)


def test_a_record_keeps_its_bytes(root: Path) -> None:
    """Order of keys, types of numbers, nulls: all of it."""
    first = {file: json.dumps(record.to_dict()) for file, (record, _) in index.scan(root)}
    assert {file: json.dumps(record.to_dict()) for file, (record, _) in index.scan(root)} == first
    assert first == {file: json.dumps(reading.read(file).to_dict()) for file in first}  # type: ignore[union-attr]


def test_what_is_small_and_alike_is_one_object_of_one_type() -> None:
    some = [{"a": {"n": 1, "kind": [0.0, 1.0]}, "long": "x" * 99, "more": list(range(9))} for _ in range(2)]
    other = {"a": {"n": 1.0, "kind": [0, True]}}
    texts = [msgspec.json.encode(value) for value in (*some, other)]
    read, taken = index.DistinctValues(texts), index.DistinctValues()
    for value in (*some, other):
        taken.number(value)
    for parts in (read, taken):
        first, *_, last = parts.values
        assert json.dumps([first, last]) == json.dumps([some[0], other])
        assert first["a"]["kind"] is not last["a"]["kind"]
    one, another, _ = read.values
    assert one["a"]["kind"] is another["a"]["kind"]
    assert one["more"] is not another["more"]


def test_an_index_of_several_groups_is_read_whole(
    root: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_GROUP", 2)
    first = _said(root)
    assert pq.ParquetFile(_file(root)).num_row_groups > 3
    reads.clear()
    assert _said(root) == first
    assert reads == []
    assert _without(root) == first


@pytest.mark.parametrize("odd", ["of 1969", "not a text"])
def test_a_file_that_cannot_be_indexed_hinders_no_other(root: Path, reads: list[Path], odd: str) -> None:
    file = next(iter(root.glob("records/*/*/*/*.json")))
    if odd == "of 1969":
        os.utime(file, ns=(-1, -1))
    else:
        file = file.rename(os.fsdecode(os.fsencode(file.parent) + b"/\xff.json"))
    first = _said(root)
    reads.clear()
    assert _said(root) == first
    assert reads == [file]


def _edited(file: Path) -> None:
    file.write_text(file.read_text().replace('"score": 0.5', '"score": 0.9', 1))


def _same_time_and_size(file: Path) -> None:
    times = file.stat()
    _edited(file)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)


def _replaced(file: Path) -> None:
    other = file.with_name(".other")
    shutil.copy2(file, other)
    _same_time_and_size(other)
    os.replace(other, file)


def _swapped(file: Path) -> None:
    """Two files change their places: both are stamped as before, but for names."""
    other = next(path for path in reading.json_files(file.parents[3]) if path.parent != file.parent)
    for source, target in ((file, "a"), (other, file), (file.with_name("a"), other)):
        os.replace(source, file.with_name(target) if target == "a" else target)


@pytest.mark.parametrize(
    "change",
    [_edited, _same_time_and_size, _replaced, _swapped, Path.unlink, lambda file: file.write_text("{")],
    ids=["edited", "edited, of one time and size", "replaced", "swapped", "removed", "broken"],
)
def test_whatever_changes_is_seen(root: Path, change: Callable[[Path], object]) -> None:
    first = _said(root)
    change(reading.json_files(root / "records")[0])
    changed = _said(root)
    assert changed != first
    assert _said(root) == changed == _without(root)


def test_a_few_changes_are_read_again_and_many_written(
    root: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "_FEW", 0.2)
    _said(root)
    written = _file(root).stat().st_ino
    new = _put(root, 0.9, "bitfit", "rte", 3)
    del reads[:]
    later = _said(root)
    assert _said(root) == later
    assert reads == [new, new]
    assert _file(root).stat().st_ino == written, "one of six"
    other = _put(root, 0.8, "bitfit", "rte", 4)
    _said(root)
    assert _file(root).stat().st_ino != written, "two of seven"
    del reads[:]
    assert _said(root) == _without(root)
    assert len(reads) == 7, "by the second alone"
    assert other in reads


def test_what_was_changed_or_removed_leaves_the_index_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little it is: it may be what nobody should read."""
    monkeypatch.setattr(index, "_FEW", 0.9)
    _said(root)
    for change in (_edited, Path.unlink):
        written = _file(root).stat().st_ino
        change(reading.json_files(root / "records")[0])
        _said(root)
        assert _file(root).stat().st_ino != written


def test_a_folder_that_was_listed_is_not_listed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, first = reading.listed(root / "records"), _said(root)
    monkeypatch.setattr(index, "listed", lambda folder: pytest.fail("listed again"))
    records = load.load(root, listed={root: files}).completed
    assert sorted(json.dumps(r.to_dict()) for r in records) == first[0]


def test_a_new_record_is_read_alone(root: Path, reads: list[Path]) -> None:
    _said(root)
    new = _put(root, 0.9, "bitfit", "rte", 3)
    del reads[:]
    later = _said(root)
    assert reads == [new]
    assert later == _said(root) == _without(root)


def test_a_file_that_changed_just_now_is_read_again(
    root: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It might change once more within one tick of the clock, and have the same stamp."""
    monkeypatch.setattr(index, "SETTLED_NS", 60_000_000_000)
    _said(root)
    _said(root)
    assert len(reads) == 2 * len(RUNS)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _forged(content: bytes) -> Callable[[Path], None]:
    """Another content, with its checksum."""
    return lambda file: cached.write(file, lambda temporary: temporary.write_bytes(content))


def _missing_parts(file: Path) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    cached.write(file, lambda temporary: pq.write_table(table[:-1], temporary))


@pytest.mark.parametrize(
    "damage",
    [_cut, _forged(b""), _forged(b"PAR1PAR1"), _missing_parts, lambda file: cached.beside(file).unlink()],
    ids=["cut", "empty", "no Parquet", "parts missing", "no checksum"],
)
def test_a_damaged_index_is_made_anew(root: Path, reads: list[Path], damage: Callable[[Path], object]) -> None:
    first = _said(root)
    damage(_file(root))
    assert _said(root) == first
    assert len(reads) == 2 * len(RUNS)
    assert _said(root) == first
    assert len(reads) == 2 * len(RUNS)


def test_another_versions_index_is_made_anew(root: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = _said(root)
    monkeypatch.setattr(index, "_version", lambda: "another")
    assert _said(root) == first
    assert len(reads) == 2 * len(RUNS)


def test_what_holds_no_record_is_named_every_time(root: Path) -> None:
    (root / "records" / "broken.json").write_text("{")
    for _ in range(2):
        assert [file for file, _ in load.load(root).unreadable] == ["records/broken.json"]
    assert sum(isinstance(record, RecordError) for _, (record, _) in index.scan(root)) == 1


def test_a_folder_that_cannot_be_written_gets_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "cache").write_text("in the way")
    assert _said(root) == _said(root)
    (root / "cache").unlink()
    monkeypatch.setattr(paths, "published", lambda: root.resolve().parent)
    assert _said(root) == _said(root)
    assert not (root / "cache").exists()


def test_an_empty_folder_and_few_records_get_none(tmp_path: Path) -> None:
    _put(tmp_path, 0.5, "lora", "rte", 0)
    assert len(load.load(tmp_path).completed) == 1
    assert not (tmp_path / "cache").exists()


def test_several_writers_at_once(root: Path) -> None:
    """Whoever comes last, the next one reads what all of them read."""
    context = multiprocessing.get_context("fork")
    first = _without(root)
    shutil.rmtree(root / "cache")
    writers = [context.Process(target=_write_often, args=(root,)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert _said(root) == first
    assert not [path for path in (root / "cache").iterdir() if path.name.endswith(".tmp")]


def _write_often(root: Path) -> None:
    for _ in range(10):
        cached.beside(_file(root)).unlink(missing_ok=True)
        assert len(load.load(root).completed) == len(RUNS)
