"""The parent's side of one run's processes (ranks), of which each device has one.

The ranks of a run end together: the first that fails, or dies silently, decides what became of the run. Rank 0's events
and result are the run's.
"""

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from peftbench.errors import OUT_OF_MEMORY
from peftbench.system import process_child as inside
from peftbench.system.redact import redact

#: Seconds that a process has to end after SIGTERM, before it is killed.
STOP_S = 10.0
#: Seconds after which SIGTERM is sent again: a process may not have had its handler yet.
_ASK_S = 1.0
#: Seconds that are waited for the cause, once a rank has failed because it lost its connection to another.
_SETTLE_S = 5.0
_LOG_TAIL = 15
#: The exit code that multiprocessing gives where the fork server, which would tell it, has ended.
_SERVER_GONE = 255
#: The exit code of a process that had too little memory to start.
NO_MEMORY = 77
#: The variable that holds the path by which the ranks of a run find each other.
MEETING = "PEFTBENCH_MEETING"

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run's processes: the `result`, or a `status` (see records.STATUSES) with the `error` in one
    line, and the log of the one that failed."""

    result: Any = None
    status: str = "completed"
    error: str | None = None
    log: Path | None = None


@dataclass
class Member:
    """One process of a run.

    Attributes:
        receiver: gets the process's events, as JSON.
        outcome: the outcome that the process has sent: done (rank 0: with the result) or failed; None: not yet.
        lost: the failure in `outcome` is that the process lost its connection to another rank.
        gone: the process has ended, or closed its connection, without an outcome.
    """

    rank: int
    process: ForkServerProcess
    receiver: Connection
    log: Path
    outcome: Outcome | None = None
    lost: bool = False
    gone: bool = False

    def hear(self, on_event: Emit) -> None:
        """Take the events that the process has sent since the last call; all but its outcome go to `on_event`."""
        while self.outcome is None and not self.gone and self.receiver.poll():
            try:
                event = json.loads(self.receiver.recv_bytes())
            except EOFError:
                self.process.join(STOP_S)
                self.gone = True
                return
            if "result" in event or "done" in event:
                self.outcome = Outcome(result=event.get("result"))
            elif "failed" in event:
                self.outcome = Outcome(status=event["failed"], error=event["error"])
                self.lost = event.get("lost", False)
            else:
                on_event(event)
        if self.outcome is None and not self.process.is_alive() and not self.receiver.poll():
            self.gone = True

    @property
    def failed(self) -> bool:
        """True if the process failed. Ranks other than 0 may end without an outcome, by exit code 0."""
        if self.outcome is not None:
            return self.outcome.status != "completed"
        return self.gone and (self.rank == 0 or self.process.exitcode != 0)

    @property
    def is_consequence(self) -> bool:
        """True if this failure is a consequence: the process lost its connection to another rank, or was told to stop
        (which rank 0 reports)."""
        return self.lost or (self.rank > 0 and self.outcome is not None and self.outcome.status == "interrupted")


def blamed(failed: list[Member]) -> Member:
    """The rank whose failure explains the others'. Prefer one that failed by itself, then one that didn't just lose its
    connection, then one that died silently."""
    return min(failed, key=lambda member: (member.is_consequence, member.lost, member.outcome is not None))


class Crew:
    """The processes of one call, started."""

    def __init__(self, context: Any, target: str, arguments: tuple[Any, ...], *, log: Path, devices: int) -> None:
        self.members: list[Member] = []
        self._killed_before = kernel_kills()
        #: `time.monotonic` at which the cause of a lost connection is waited for no longer; whether the rank that is
        #: `blamed` died silently.
        self._settled: float | None = None
        self._silent = False
        self._folder = tempfile.TemporaryDirectory(prefix="peftbench-") if devices > 1 else None
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            for rank in range(devices):
                self._start(context, target, arguments, rank=rank, log=log, devices=devices)
        except BaseException:
            self.end()
            raise

    def _start(
        self, context: Any, target: str, arguments: tuple[Any, ...], *, rank: int, log: Path, devices: int
    ) -> None:
        environ, own_log = dict(os.environ), log
        if self._folder is not None:
            place = {"RANK": rank, "LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": devices}
            environ |= {name: str(value) for name, value in place.items()}
            environ[MEETING] = str(Path(self._folder.name, "meeting"))
            own_log = log.with_name(f"{log.stem}.rank{rank}{log.suffix}") if rank else log
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=inside.main, args=(sender, environ, sys.path, target, arguments, str(own_log)))
        process.start()
        sender.close()
        self.members.append(Member(rank, process, receiver, own_log))

    def listen(self, on_event: Emit, timeout_s: float | None) -> Outcome:
        """Pass events on until rank 0's result is in, or a rank has failed or died silently; returns what became of the
        run.

        Raises:
            TimeoutError: neither happened within `timeout_s` seconds.
        """
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            for member in self.members:
                member.hear(on_event if member.rank == 0 else lambda event: None)
            first = self.members[0].outcome
            if first is not None and first.status == "completed":
                return first
            failed = [member for member in self.members if member.failed]
            now = time.monotonic()
            if failed and self._settled is None:
                self._settled = now + _SETTLE_S
            caused = not all(member.is_consequence for member in failed)
            if caused or (self._settled is not None and now >= self._settled):
                return self._outcome(blamed(failed))
            ends = [moment for moment in (end, self._settled) if moment is not None]
            if not self._wait(min(ends) - now if ends else None) and end is not None and time.monotonic() >= end:
                raise TimeoutError

    def _outcome(self, member: Member) -> Outcome:
        """The outcome of a rank that failed, with the rank's number where there are several."""
        outcome, self._silent = member.outcome, member.outcome is None
        if outcome is None:
            outcome = died(member.process.exitcode, member.log, kernel_kills() > self._killed_before)
        several = len(self.members) > 1 and outcome.status != "interrupted"
        return replace(
            outcome, error=f"rank {member.rank}: {outcome.error}" if several else outcome.error, log=member.log
        )

    def _wait(self, seconds: float | None) -> bool:
        """Wait until a rank sends something or ends, at most so many seconds; returns whether one did."""
        watched: list[Any] = []
        for member in self.members:
            if not member.gone and member.outcome is None:
                watched += [member.receiver, member.process.sentinel]
        return bool(wait(watched, None if seconds is None else max(0.0, seconds)))

    def ask_to_stop(self, grace_s: float) -> Outcome:
        """Send all ranks SIGTERM, and wait at most `grace_s` seconds for the outcome."""
        end = time.monotonic() + grace_s
        while (left := end - time.monotonic()) > 0:
            for member in self.members:
                member.process.terminate()
            with contextlib.suppress(TimeoutError):
                outcome = self.listen(lambda event: None, min(left, _ASK_S))
                if not self._silent:
                    return outcome
                break  # It died of the signal: it had no handler yet.
        return Outcome(status="interrupted", error="stopped before it could save its state")

    def join(self, seconds: float) -> None:
        """Wait at most so many seconds in all until the ranks have ended."""
        end = time.monotonic() + seconds
        for member in self.members:
            member.process.join(max(0.0, end - time.monotonic()))

    def kill(self) -> None:
        """Kill the ranks that are left, and the processes that they have started."""
        for member in self.members:
            if member.process.is_alive():
                _kill(member.process)

    def end(self) -> None:
        """End all ranks: by SIGTERM, and after `STOP_S` seconds by SIGKILL."""
        for member in self.members:
            if member.process.is_alive():
                member.process.terminate()
        self.join(STOP_S)
        self.kill()
        for member in self.members:
            member.receiver.close()
        if self._folder is not None:
            self._folder.cleanup()


def _kill(process: ForkServerProcess) -> None:
    below = list(inside.descendants(process.pid)) if process.pid is not None else []
    process.kill()
    for pid in below:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    process.join()


def kernel_kills() -> int:
    """The number of processes that the kernel has killed since its start because memory ran out; 0 where it doesn't
    say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def died(exitcode: int | None, log: Path, kernel_killed: bool) -> Outcome:
    """A process that went without a word: by which signal, and the last thing in its log."""
    lacking = [line[line.index(sign) :] for line in tail(log) for sign in OUT_OF_MEMORY if sign in line]
    if lacking:
        return Outcome(status="oom", error=f"memory ran out: {lacking[-1].strip()}")
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        if name == "SIGKILL" and kernel_killed:
            return Outcome(status="oom", error="the kernel killed the process (SIGKILL): memory ran out")
        hint = {"SIGKILL": "; the kernel does that when memory runs out", "SIGSEGV": "; a crash in compiled code"}
        return Outcome(status="error", error=f"the process was killed by {name}{hint.get(name, '')}")
    if exitcode == NO_MEMORY:
        return Outcome(status="oom", error="memory ran out before the process began")
    last = (tail(log) or ["nothing in its log"])[-1]
    if exitcode == _SERVER_GONE:
        return Outcome(status="error", error=f"the fork server, which starts the runs, was killed: {last}")
    return Outcome(status="error", error=f"the process ended with exit code {exitcode}: {last}")


def tail(log: Path) -> list[str]:
    """The last lines of a log, without empty ones, redacted."""
    try:
        lines = redact(log.read_text(errors="replace")).splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_LOG_TAIL:]
