"""A disk that fills up, or can't be written, costs files and never a run's numbers."""

import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peftbench.results import store
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from tests.helpers.runs import TROUBLE, Run, only


def test_a_record_that_cannot_be_put_is_kept_elsewhere_and_said(
    cell, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from peftbench.sweep import job

    found = cell()
    record = RunRecord(key=found.key, status="completed", config={}, score=0.75)
    results.mkdir()
    (results / "records").touch()  # A file where the folder must be.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    job.keep(found, ResultStore(results), record)
    (line,) = capfd.readouterr().err.splitlines()
    file = tmp_path / f"peftbench-{found.key}.json"
    assert line.endswith(f"it is kept as {file}")
    assert json.loads(file.read_text()) == dataclasses.asdict(record)

    monkeypatch.setattr(store.files, "write", _raise)
    job.keep(found, ResultStore(results), record)
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line.partition("this is it: ")[2])["score"] == 0.75


def _raise(*_: Any) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MB, to be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_files_and_not_the_numbers(
    run_cli: Run, tiny, trouble: Path, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", str(small_disk / "filler"))
    kept = tmp_path / "temporary"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    line = tiny(
        "method=fills_disk", "recipe.max_steps=16", "recipe.eval_steps=4", f"results_dir={small_disk / 'results'}"
    )
    status, out, err = run_cli(TROUBLE, *line)
    assert status == 1
    (said,) = err.splitlines()
    assert "the record can't be written (No space left on device); it is kept as" in said
    (file,) = kept.glob("peftbench-*.json")
    assert str(file) in said
    record = json.loads(file.read_text())
    assert record["status"] == "completed"
    assert record["metrics"]["validation"]["n"] == 40
    assert any("weights weren't kept: No space left on device" in note for note in record["footnotes"])
    assert any("predictions weren't kept" in note for note in record["footnotes"])
    assert "1 without a record" in out

    # With nothing left, nothing is begun.
    status, _, err = run_cli(TROUBLE, *line)
    assert (status, "can't be written (No space left on device)" in err) == (2, True)
    (small_disk / "filler").unlink()
    monkeypatch.setenv("TROUBLE", "/dev/full")
    assert run_cli(TROUBLE, *line)[0] == 0


@pytest.mark.slow
def test_a_records_folder_that_cannot_be_written(
    run_cli: Run, tiny, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "records").mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(results / "records")]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        assert run_cli(*tiny("recipe.max_steps=4"))[0] == 2
        # As if that came about while the run was made.
        monkeypatch.setattr(ResultStore, "check_writable", lambda *_: None)
        kept = tmp_path / "temporary"
        kept.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(kept))
        status, _, err = run_cli(*tiny("recipe.max_steps=4"))
        assert (status, "Read-only file system" in err) == (1, True)
        (file,) = kept.glob("peftbench-*.json")
        score = json.loads(file.read_text())["score"]
    finally:
        subprocess.run(["umount", "-l", str(results / "records")], check=True)
    # The run's own folder still had its record.
    status, out, _ = run_cli(*tiny("recipe.max_steps=4"))
    assert (status, "had ended when it was stopped: recorded now" in out) == (0, True)
    assert only(results, "completed").score == score


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_said_before_anything_is_trained(run_cli: Run, tiny, results: Path) -> None:
    results.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(results)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        status, _, err = run_cli(*tiny())
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)
    assert status == 2
    assert "can't be written (Read-only file system)" in err
    assert len(err.splitlines()) == 1
