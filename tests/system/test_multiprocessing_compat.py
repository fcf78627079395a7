"""What we use of multiprocessing under private names is still as it was."""

import os
import platform
import signal
from multiprocessing import forkserver

from peftbench.system import multiprocessing_compat

CHANGED = (
    f"Python {platform.python_version()} isn't as {multiprocessing_compat.WRITTEN_FOR} was; "
    "see system/multiprocessing_compat.py"
)


def test_the_fork_servers_process_is_known_once_it_runs() -> None:
    other = forkserver.ForkServer()  # Tests of this process share the one that is in use.
    assert other._forkserver_pid is None, CHANGED  # type: ignore[attr-defined]
    before = forkserver._forkserver  # type: ignore[attr-defined]
    forkserver._forkserver = other  # type: ignore[attr-defined]
    try:
        assert multiprocessing_compat.server_pid() is None, CHANGED
        other.ensure_running()
        pid = multiprocessing_compat.server_pid()
        assert pid is not None, CHANGED
        os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
        other._stop()  # type: ignore[attr-defined]
    finally:
        forkserver._forkserver = before  # type: ignore[attr-defined]
