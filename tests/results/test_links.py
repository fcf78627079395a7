"""A symbolic link in a results folder never leads a write out of it."""

import fcntl
import os
from pathlib import Path

import pytest

from peftbench.results import activity, announcements
from peftbench.results.store import ResultStore
from peftbench.system import files, process_child


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    file = tmp_path / "victim"
    file.write_text("mine")
    return file


def test_a_claim_does_not_follow_a_link(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "r" / "claims").mkdir(parents=True)
    lock = tmp_path / "r" / "claims" / "k.lock"
    lock.symlink_to(victim)
    with ResultStore(tmp_path / "r").claim("k") as owned, ResultStore(tmp_path / "r").claim("k") as again:
        assert (owned, again) == (True, False)
    assert victim.read_text() == "mine"
    assert not lock.is_symlink()


def test_nor_does_the_lock_of_a_runs_folder(tmp_path: Path, victim: Path) -> None:
    folder = tmp_path / "unfinished" / "k"
    folder.mkdir(parents=True)
    (folder / "lock").symlink_to(victim)
    with files.owned(folder):
        pass
    assert victim.read_text() == "mine"
    (folder / "lock").unlink()
    (folder / "lock").symlink_to(tmp_path / "nowhere")
    with files.owned(folder):
        assert not (tmp_path / "nowhere").exists()


def test_a_lock_keeps_what_is_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("x")
    with files.open_lock(tmp_path / "lock") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (tmp_path / "lock").read_text() == "x"


def test_a_fifo_is_no_lock_and_no_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OSError, match="not a plain file"):
        files.open_lock(tmp_path / "lock")


def test_nor_does_a_log(tmp_path: Path, victim: Path) -> None:
    log = tmp_path / "verify.log"
    log.symlink_to(victim)
    pid = os.fork()
    if pid == 0:  # It takes over the process's streams.
        process_child._redirect(str(log))
        print("said", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    assert victim.read_text() == "mine"
    assert "said" in log.read_text()


def test_temporary_names_cannot_be_foreseen(tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.json"
    one, two = files.temporary(target), files.temporary(target)
    assert one != two
    assert one.name.startswith(".x.json.")
    assert one.name.endswith(".tmp")
    monkeypatch.setattr(files.secrets, "token_hex", lambda size: "00")
    (tmp_path / ".x.json.00.tmp").symlink_to(victim)
    with pytest.raises(FileExistsError):
        files.write(target, lambda file: file.write_text("theirs"))
    assert victim.read_text() == "mine"


def test_links_at_a_targets_own_name_are_replaced(tmp_path: Path, victim: Path) -> None:
    for name in ("state.pt", "adapter"):
        (tmp_path / name).symlink_to(victim if name == "state.pt" else tmp_path)
    files.write(tmp_path / "state.pt", lambda file: file.write_text("theirs"))
    files.write_folder(tmp_path / "adapter", lambda folder: (folder / "x").write_text("theirs"))
    assert victim.read_text() == "mine"
    assert (tmp_path / "state.pt").read_text() == "theirs"
    assert not (tmp_path / "adapter").is_symlink()


def test_files_of_live_do_not_follow_links(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "live").mkdir()
    for pattern in ("sweep-{}-{}.json", ".sweep-{}-{}.json.tmp"):
        (tmp_path / "live" / pattern.format(activity.me().host, activity.me().pid)).symlink_to(victim)
    with announcements.announced(tmp_path, announcements.SweepActivity(activity.me(), "line", 0.0, 1)):
        assert victim.read_text() == "mine"
    assert victim.read_text() == "mine"


def test_a_file_that_is_made_anew_can_be_read_by_others(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        files.write(tmp_path / "x", lambda file: file.write_text("x"))
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o644
