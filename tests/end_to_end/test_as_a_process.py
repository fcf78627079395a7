"""The command line as a process of its own: from another folder, killed, stopped by Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench.config import paths
from peftbench.system.process_child import descendants
from tests.helpers.runs import TINY, records


@pytest.mark.slow
def test_from_another_folder_as_a_module(tmp_path: Path, data_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *TINY, "recipe.max_steps=2", f"data_root={data_root}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert "1 completed" in done.stdout
    assert len(records(tmp_path / "results")) == 1
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_run_whose_parent_is_killed_does_not_train_on(tmp_path: Path, data_root: Path) -> None:
    line = [*TINY, "recipe.max_steps=100000", f"data_root={data_root}"]
    parent = subprocess.Popen(
        [sys.executable, "-m", "peftbench", *line],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("run.log")) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        workers = list(descendants(parent.pid))
        assert workers
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.parametrize("after", [1.0, 2.0, 3.5])
def test_ctrl_c_while_libraries_are_imported_is_one_line(tmp_path: Path, data_root: Path, after: float) -> None:
    """A terminal sends it to every process of the group, the fork server that is importing torch among them."""
    with subprocess.Popen(
        [sys.executable, "-m", "peftbench", *TINY, f"data_root={data_root}"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(paths.PACKAGE.parent)},
    ) as parent:
        time.sleep(after)
        os.killpg(parent.pid, signal.SIGINT)
        _, err = parent.communicate(timeout=60)
    assert (parent.returncode, err) == (130, "peftbench: stopped; the same line goes on from here\n")
