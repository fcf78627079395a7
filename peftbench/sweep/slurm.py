"""Slurm under submitit's launcher: what a job asks for, whether it starts again, and what became of jobs that Slurm
ended.

tests/endurance/slurm.py tries it on a real Slurm.
"""

import contextlib
import getpass
import math
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from hydra.core.utils import JobReturn

from peftbench.sweep import submitit_compat
from peftbench.sweep.launchers import Launcher

#: Bytes of a job beside what a run's record counts: its parent, its fork server, and what the run was born with.
BESIDE = 2e9
#: By how much memory may be more than records of the like said; by how much time, and minutes for the job's start.
_MORE_MEMORY, _MORE_TIME, _START_MIN = 1.2, 2.0, 5
#: Seconds after which Slurm is asked again, at the most.
_LOOK_S = 60
#: States of jobs from which nothing follows.
_ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")


class Estimated(Protocol):
    """A run with its estimates: seconds, and bytes of its process's peak; None: unknown."""

    @property
    def estimate_s(self) -> float | None: ...

    @property
    def memory(self) -> float | None: ...


def sized(launcher: Launcher, runs: Sequence[Estimated], words: Sequence[str]) -> Launcher:
    """The launcher, asking Slurm for the memory and time that its runs are estimated to need, where the command line
    says nothing else and all estimates are known. Another launcher stays as it is.

    Args:
        words: the command line's.
    """
    given_keys = {word.lstrip("+").partition("=")[0] for word in words}
    unsaid = [name for name in launcher.unsaid if f"hydra.launcher.{name}" not in given_keys]
    figures, described = {}, []
    memory = _most(run.memory for run in runs)
    if "mem_gb" in unsaid and memory is not None:
        figures["mem_gb"] = math.ceil((memory * _MORE_MEMORY + BESIDE) / 1e9)
        described.append(f"{figures['mem_gb']} GB")
    seconds = _most(run.estimate_s for run in runs)
    if "timeout_min" in unsaid and seconds is not None:
        figures["timeout_min"] = math.ceil(seconds * _MORE_TIME / 60) + _START_MIN
        described.append(f"{figures['timeout_min']} min")
    overrides = (f"hydra.launcher.{name}={value}" for name, value in figures.items())
    return replace(launcher, overrides=(*launcher.overrides, *overrides), asked=(*launcher.asked, *described))


def _most(values: Iterator[float | None]) -> float | None:
    """The largest of some values; None where one isn't known, or there are none."""
    listed = list(values)
    numbers = [value for value in listed if value is not None]
    return max(numbers) if numbers and len(numbers) == len(listed) else None


def starts_again(environ: Mapping[str, str] = os.environ) -> bool:
    """True if Slurm has put this job in the queue again (`scontrol requeue`, preemption): it counts the starts."""
    job = environ.get("SLURM_JOB_ID")
    if job is None:
        return False
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        shown = _say(["scontrol", "--oneliner", "show", "job", job])
        starts = re.search(r"\bRestarts=(\d+)", shown)
        return starts is not None and int(starts[1]) > int(environ.get("SLURM_RESTART_COUNT") or 0)
    return False


def _say(command: list[str]) -> str:
    """The text that a command of Slurm's prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextlib.contextmanager
def watched(launcher: Launcher) -> Iterator[None]:
    """Lets the command learn, while entered, of jobs that Slurm ended, without accounting too, and wait for the others.

    submitit asks `sacct` alone. Without accounting that fails, with a line for each try, and a job that was cancelled
    is waited for for ever. And one job without a result would end the wait for all.
    """
    if launcher.name != "submitit_slurm":
        yield
        return
    job, uncompleted = submitit_compat.job_class(), submitit_compat.uncompleted_error()
    watcher, results = job.watcher, job.results

    def patient(self: Any) -> list[Any]:
        try:
            return list(results(self))
        except uncompleted:  # Its record says why, or that there is none.
            return [JobReturn()]

    job.results = patient
    if not _accounting():
        listed = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", f"--user={getpass.getuser()}"]
        job.watcher = submitit_compat.watcher_by(type(watcher), listed, states)(delay_s=_LOOK_S)
    try:
        yield
    finally:
        job.results, job.watcher = results, watcher


def _accounting() -> bool:
    """True if `sacct` answers."""
    try:
        _say(["sacct", "--noheader", "--jobs=1"])
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def states(listed: str, jobs: set[str]) -> dict[str, dict[str, str]]:
    """The states of jobs as submitit is told them: `State` by what squeue lists (`<id>|<state>`, a line a job).

    A job that isn't listed any more has ended some minutes ago. A state that submitit doesn't know would be an end to
    it: such a job is said to run.
    """
    by_job = dict(line.strip().split("|") for line in listed.splitlines() if "|" in line)
    states_of = {}
    for job in jobs:
        state = by_job.get(job, "COMPLETED")
        states_of[job] = {"State": state if state in (*_ENDED, "PENDING") else "RUNNING"}
    return states_of
