"""What this project uses of Python's multiprocessing under private names.

tests/system/test_multiprocessing_compat.py fails where a later Python has changed it.
"""

from multiprocessing import forkserver

#: The Python that this file was written against.
WRITTEN_FOR = "3.11"


def server_pid() -> int | None:
    """The fork server's process; None: none was started by this one."""
    pid: int | None = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid
