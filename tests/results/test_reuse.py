"""A report of which nothing changed is told again, and says what a report made anew says."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.results import index, reading
from peftbench.results.report import command, load, reuse
from peftbench.results.store import ResultStore
from peftbench.system import cached, fingerprint
from tests.helpers.boards import made
from tests.helpers.composed import composed


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of a few records, of which what was said is kept at once."""
    monkeypatch.setattr(index, "WORTH", 2)
    monkeypatch.setattr(index, "SETTLED_NS", -60_000_000_000)
    for i, (method, dataset) in enumerate([("lora", "sst2"), ("full", "sst2"), ("full", "rte")]):
        words = [f"method={method}", f"dataset={dataset}"]
        record = made(0.5 + i / 100, *words, environment={"cpu": "c", "threads": 2})
        record.key = reading.key_of(record)
        ResultStore(tmp_path).put(composed(["model=tiny_bert", *words]), record)
    (tmp_path / "records" / "broken.json").write_text("{")
    return tmp_path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each time that records are loaded."""
    times: list[int] = []
    plain = load.load
    monkeypatch.setattr(load, "load", lambda *roots, **how: (times.append(1), plain(*roots, **how))[1])
    return times


def _report(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, dict[str, str]]:
    """What a report prints, and the files that it leaves."""
    assert command.main([f"results_dir={root}"]) == 0
    return capsys.readouterr().out, {file.name: file.read_text() for file in root.glob("leaderboard*")}


def test_nothing_changed_and_all_is_said_again(
    root: Path, loads: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _report(root, capsys)
    assert "broken.json: no record" in first[0]
    assert _report(root, capsys) == first
    assert len(loads) == 1
    monkeypatch.setenv("COLUMNS", "200")
    wide = _report(root, capsys)
    assert wide != first
    shutil.rmtree(root / "cache")
    assert _report(root, capsys) == wide
    assert len(loads) == 2


def _edited(root: Path) -> None:
    file = next((root / "records").rglob("lora/*.json"))
    file.write_text(file.read_text().replace('"score": 0.5', '"score": 0.9'))


def _added(folder: str) -> Callable[[Path], None]:
    def add(root: Path) -> None:
        file = root / folder / "sst2" / "tiny_bert" / "lora" / "k.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")

    return add


def _changed(root: Path) -> None:
    (root / "leaderboard.csv").write_text((root / "leaderboard.csv").read_text() + "x")


@pytest.mark.parametrize(
    "change",
    [
        _edited,
        lambda root: next((root / "records").rglob("full/*.json")).unlink(),
        _added("predictions"),
        _added("curves"),
        lambda root: (root / "leaderboard.md").unlink(),
        _changed,
        lambda root: cached.beside(root / "cache" / reuse._FILE).unlink(),
        lambda root: cached.write(root / "cache" / reuse._FILE, lambda file: file.write_text("{}")),
    ],
    ids=["edited", "removed", "predictions", "a curve", "no Markdown", "another CSV", "no checksum", "forged"],
)
def test_whatever_changes_is_seen(
    root: Path, loads: list[int], capsys: pytest.CaptureFixture[str], change: Callable[[Path], object]
) -> None:
    _report(root, capsys)
    change(root)
    later = _report(root, capsys)
    assert len(loads) == 2
    shutil.rmtree(root / "cache")
    assert _report(root, capsys) == later


def test_another_secret_or_version_is_seen(
    root: Path, loads: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _report(root, capsys)
    monkeypatch.setenv("MY_TOKEN", "tiny_bert")
    assert "tiny_bert" not in "".join(_report(root, capsys)[1].values())
    assert len(loads) == 2
    monkeypatch.setattr(fingerprint, "of_code", lambda package: "another")
    _report(root, capsys)
    assert len(loads) == 3


def test_what_changed_just_now_is_not_kept(
    root: Path, loads: list[int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "SETTLED_NS", 60_000_000_000)
    _report(root, capsys)
    _report(root, capsys)
    assert len(loads) == 2


def test_reports_of_some_runs_are_made_anew(root: Path, loads: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    _report(root, capsys)
    assert command.main([f"results_dir={root}", "method=lora"]) == 0
    assert command.main([f"results_dir={root}", "format=csv"]) == 0
    assert len(loads) == 3
