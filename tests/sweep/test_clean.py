"""`peftbench clean`: what nothing needs any more is deleted, and nothing that is in use."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import cli
from peftbench.config import identity
from peftbench.results import activity
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun
from peftbench.system import cached

WEEK = 7 * 86400
OLD, NEW = "2026-01-02_03-04-05-a1b2c3", "2026-01-02_03-04-05-d4e5f6"


def _age(path: Path, seconds: float) -> None:
    moment = time.time() - seconds
    for each in [*path.rglob("*"), path]:
        os.utime(each, (moment, moment))


def _log(root: Path, name: str, age: float) -> Path:
    folder = root / "logs" / name
    (folder / "0").mkdir(parents=True)
    (folder / "0" / "run.log").write_text("0123456789")
    _age(folder, age)
    return folder


@pytest.fixture
def recorded(cell: Callable[..., PreparedRun], results: Path) -> PreparedRun:
    """A completed run, with its claim and a state that was left."""
    found, store = cell(), ResultStore(results)
    config = identity.description(found.config)
    store.put(found.config, RunRecord(key=found.key, status="completed", score=0.5, config=config))
    with store.claim(found.key) as owned:
        assert owned
    _state(results, found.key)
    return found


def _state(root: Path, key: str) -> Path:
    folder = root / "unfinished" / key
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(bytes(1000))
    return folder


def _tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_what_ended_runs_left_goes(run_cli, recorded: PreparedRun, results: Path) -> None:
    old, new = _log(results, OLD, WEEK + 100), _log(results, NEW, WEEK - 1000)
    trial = _log(results / "trials", OLD, WEEK + 100)
    other = _state(results, "0" * 20)  # Of a run that isn't recorded.
    theirs = results / "logs" / "mine"
    theirs.mkdir()
    _age(theirs, 2 * WEEK)
    before = _tree(results / "records") | _tree(results / "cache")
    status, said, _ = run_cli("clean", f"results_dir={results}")
    assert status == 0
    assert [path.exists() for path in (old, new, trial, other, theirs)] == [False, True, False, True, True]
    assert not list((results / "claims").iterdir())
    assert not (results / "unfinished" / recorded.key).exists()
    assert _tree(results / "records") | _tree(results / "cache") == before
    for line in ("unfinished: 1 deleted, 1000 bytes", "claims: 1 deleted, 0 bytes", "logs: 2 deleted, 20 bytes"):
        assert line in said
    assert f"logs/{OLD}" in said
    assert "1020 bytes (1.0 kB) freed" in said


def test_a_dry_run_says_the_same_and_deletes_nothing(run_cli, recorded: PreparedRun, results: Path) -> None:
    _log(results, OLD, WEEK + 100)
    before = _tree(results)
    _, dry, _ = run_cli("clean", f"results_dir={results}", "dry_run=true", "cache=true", "older_than=0s")
    assert _tree(results) == before
    _, said, _ = run_cli("clean", f"results_dir={results}", "cache=true", "older_than=0s")
    assert dry.replace("would be deleted", "deleted").replace("would be freed", "freed") == said
    assert _tree(results) != before


class TestBesideRuns:
    def test_what_a_process_owns_stays(self, run_cli, recorded: PreparedRun, results: Path) -> None:
        store = ResultStore(results)
        with store.claim(recorded.key) as owned:
            assert owned
            run_cli("clean", f"results_dir={results}")
            assert (results / "claims" / f"{recorded.key}.lock").exists()
            assert (results / "unfinished" / recorded.key).exists()
        run_cli("clean", f"results_dir={results}")
        assert not (results / "unfinished" / recorded.key).exists()

    def test_what_a_child_works_in_stays(self, run_cli, recorded: PreparedRun, results: Path) -> None:
        import fcntl

        with (results / "unfinished" / recorded.key / "lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            run_cli("clean", f"results_dir={results}")
            assert (results / "unfinished" / recorded.key).exists()

    def test_nothing_goes_that_changed_since_a_living_run_began(
        self, run_cli, recorded: PreparedRun, results: Path
    ) -> None:
        old, own = _log(results, OLD, 3000), _log(results, NEW, 900)
        began = time.time() - 1000
        running = activity.RunActivity(activity.me(), "r", "a run", since=began, updated=began)
        activity.write(results / "live" / "run-x-1.json", running)
        run_cli("clean", f"results_dir={results}", "older_than=1s")
        assert (old.exists(), own.exists()) == (False, True)
        (results / "live" / "run-x-1.json").unlink()
        run_cli("clean", f"results_dir={results}", "older_than=1s")
        assert not own.exists()

    def test_a_run_has_one_owner_however_often_the_folder_is_cleaned(
        self, recorded: PreparedRun, results: Path
    ) -> None:
        """A lock of a file that was deleted meanwhile owns nothing."""
        store, owners, most, stop = ResultStore(results), [0], [0], threading.Event()

        def own() -> None:
            while not stop.is_set():
                with store.claim("k") as owned:
                    if owned:
                        owners[0] += 1
                        most[0] = max(most[0], owners[0])
                        time.sleep(0.0005)
                        owners[0] -= 1

        threads = [threading.Thread(target=own) for _ in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 3
        while time.monotonic() < end:
            cli.main(["clean", f"results_dir={results}"])
        stop.set()
        for thread in threads:
            thread.join()
        assert most[0] == 1


def test_a_lock_whose_file_was_deleted_is_taken_anew(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    store, really, locked = ResultStore(results), fcntl.flock, []

    def lock(stream: object, how: int) -> None:
        if not locked:  # Between opening and locking, `clean` was there.
            (results / "claims" / "k.lock").unlink()
        locked.append(stream)
        really(stream, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", lock)
    with store.claim("k") as owned, store.claim("k") as second:
        assert (owned, second) == (True, False)


def test_caches_that_were_not_used_go_only_when_asked_for(run_cli, recorded: PreparedRun, results: Path) -> None:
    for name in ("used", "unused"):
        cached.write(results / "cache" / "tokens" / name, lambda file: file.write_bytes(bytes(10)))
    (results / "cache" / "tokens" / ".half.1.tmp").write_bytes(bytes(5))
    _age(results / "cache", 2 * WEEK)
    assert cached.holds(results / "cache" / "tokens" / "used")
    run_cli("clean", f"results_dir={results}")
    assert len(list((results / "cache" / "tokens").iterdir())) == 5
    run_cli("clean", f"results_dir={results}", "cache=true")
    assert _tree(results / "cache" / "tokens") == {"used", "used.sha256"}


def test_links_are_left_alone(run_cli, recorded: PreparedRun, results: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / OLD).mkdir(parents=True)
    (outside / OLD / "run.log").write_text("x")
    _age(outside, 2 * WEEK)
    (results / "logs").mkdir(exist_ok=True)
    (results / "logs" / OLD).symlink_to(outside / OLD)
    (results / "claims" / "x.lock").symlink_to(outside / OLD / "run.log")
    (results / "unfinished" / recorded.key / "state.pt").unlink()
    (results / "unfinished" / recorded.key / "state.pt").symlink_to(outside / OLD / "run.log")
    run_cli("clean", f"results_dir={results}", "cache=true", "older_than=1s")
    assert (outside / OLD / "run.log").read_text() == "x"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["older_than=7"], "older_than=7: allowed is a number and a unit (s, m, h, d, w), as 7d"),
        (["cache=yes"], "cache=yes: allowed is true or false"),
        (["dryrun=true"], "dry_run="),
        (["results_dir=nowhere"], "there is no such folder"),
    ],
)
def test_a_wrong_line_deletes_nothing(
    run_cli, recorded: PreparedRun, results: Path, given: list[str], said: str
) -> None:
    before = _tree(results)
    status, _, error = run_cli("clean", f"results_dir={results}", *given)
    assert (status, error.count("\n")) == (2, 1)
    assert said in error
    assert _tree(results) == before


def test_a_folder_of_something_else_is_refused(run_cli, tmp_path: Path) -> None:
    folder = _log(tmp_path, OLD, 2 * WEEK)
    status, _, error = run_cli("clean", f"results_dir={tmp_path}")
    assert (status, folder.exists()) == (2, True)
    assert "is no results folder" in error
