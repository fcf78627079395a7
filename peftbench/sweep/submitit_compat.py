"""What the watch of Slurm's jobs uses of submitit beside its documented interface.

submitit comes with an extra and is imported where jobs are watched. tests/sweep/test_submitit_compat.py fails where a
later submitit has changed it.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any

#: The submitit that this file was written against.
WRITTEN_FOR = "1.5.4"


def job_class() -> Any:
    """submitit's class of Slurm's jobs; `watcher` is what all of them are watched by."""
    return importlib.import_module("submitit.slurm.slurm").SlurmJob


def uncompleted_error() -> type[Exception]:
    """The error that a job's `results` raises where there are none."""
    error: type[Exception] = importlib.import_module("submitit.core.utils").UncompletedJobError
    return error


def watcher_by(theirs: Any, command: Sequence[str], read: Callable[[str, set[str]], dict[str, dict[str, str]]]) -> Any:
    """A class of watchers that ask by another command than sacct.

    Args:
        theirs: the class of the watcher that is there.
        read: from what the command printed and the jobs that are asked for to what submitit is told of each.
    """

    class Watcher(theirs):  # type: ignore[misc]  # Without submitit there is no class to name.
        def _make_command(self) -> list[str] | None:
            return None if super()._make_command() is None else list(command)

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            return read(string if isinstance(string, str) else string.decode(), self._registered)

    return Watcher
