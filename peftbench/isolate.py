"""One run, one fresh process: clean memory figures, and nothing that dies or leaks takes anything along.

The parent imports no torch. A fork server imports torch, transformers, peft and lightning once and forks a clean
process for each run, in 0.4 s instead of the ten seconds that the imports take.
"""

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any

from peftbench import child as inside
from peftbench.redact import redact

#: Imported by the fork server. Not `datasets` nor `evaluate`: they start threads, which a fork must not meet.
_PRELOAD = "peftbench.preload"
#: Seconds that a child may go on after its result is in (sinks that are slow to close), and then after being asked to
#: stop.
_LINGER_S, _STOP_S = 60.0, 10.0
#: A child that is asked to stop is asked again so often: it may not have been listening yet.
_ASK_S = 1.0
_LOG_TAIL = 15
#: What asks a process to stop: Ctrl-C, a scheduler, a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a child: its `result`, or a `status` (see records.STATUSES) with the `error` in one line."""

    result: Any = None
    status: str = "completed"
    error: str | None = None


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or a signal that means the same, came while a child ran; it has gone by now.

    Attributes:
        outcome: what became of it.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within this a scheduler's SIGTERM, and a terminal that is closed, stop this process as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:  # `nohup` means it.
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Within this, what asks to stop waits: for steps that belong together."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm_up() -> None:
    """Start the fork server, so that its imports run while the parent goes on."""
    _context()
    # The server inherits this: what stops the parent is the parent's to answer, not a traceback of the server's. And
    # without the server the parent couldn't see its child end.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in SIGNALS}
    try:
        forkserver.ensure_running()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def call(
    target: str,
    *arguments: Any,
    log: Path,
    on_event: Emit = lambda event: None,
    on_result: Callable[[Any], None] = lambda result: None,
    on_stop: Callable[[], None] = lambda: None,
    grace_s: float = _STOP_S,
    timeout_s: float | None = None,
) -> Outcome:
    """Run `target` ("module:function") in a fresh process and wait for it.

    The function is called as `function(*arguments, emit)`. A dict it emits with the key `result` is its result, which
    goes to `on_result` at once: what the child does afterwards (closing sinks) has a time limit and can't lose it.
    Other events go to `on_event`.

    Args:
        log: takes all that the child prints and logs, and the stack of a crash.
        on_stop: called when this process is asked to stop, before the child is.
        grace_s: seconds that the child then has. Asked again, this process doesn't wait for it.
        timeout_s: seconds until the child is killed; None: as long as it takes.

    Raises:
        Stopped: this process was asked to stop, and the child has gone.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    killed_before = _kernel_kills()
    child = context.Process(target=inside.main, args=(sender, dict(os.environ), sys.path, target, arguments, str(log)))
    child.start()
    sender.close()
    try:
        try:
            outcome = _listen(child, receiver, on_event, timeout_s)
        except TimeoutError:
            _kill(child)
            outcome = Outcome(status="timeout", error=f"no result after {timeout_s:g} s (timeout_s)")
        except KeyboardInterrupt:
            on_stop()
            outcome = _ask_to_stop(child, receiver, grace_s)
            if outcome.result is not None:
                on_result(outcome.result)
            raise Stopped(outcome) from None
        if outcome is not None and outcome.result is not None:
            on_result(outcome.result)
        child.join(_LINGER_S)
    finally:
        receiver.close()
        _end(child)
    return outcome if outcome is not None else _died(child.exitcode, log, _kernel_kills() > killed_before)


def _context() -> Any:
    # Also under joblib's loky workers, whose own start method children can't be made with.
    multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    return context


def _listen(child: ForkServerProcess, receiver: Connection, on_event: Emit, timeout_s: float | None) -> Outcome | None:
    """Events until the result, a failure, or the end of the child (None). Raises TimeoutError."""
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        ready = wait([receiver, child.sentinel], None if end is None else max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError
        if receiver in ready:
            try:
                event = json.loads(receiver.recv_bytes())
            except EOFError:
                return None
            if "result" in event:
                return Outcome(result=event["result"])
            if "failed" in event:
                return Outcome(status=event["failed"], error=event["error"])
            on_event(event)
        elif not receiver.poll():
            return None


def _ask_to_stop(child: ForkServerProcess, receiver: Connection, grace_s: float) -> Outcome:
    end = time.monotonic() + grace_s
    while (left := end - time.monotonic()) > 0:
        child.terminate()
        with contextlib.suppress(TimeoutError):
            outcome = _listen(child, receiver, lambda event: None, min(left, _ASK_S))
            if outcome is not None:
                return outcome
            break
    return Outcome(status="interrupted", error="stopped before it could save its state")


def _end(child: ForkServerProcess) -> None:
    """See to it that a child has gone, by asking first."""
    if child.is_alive():
        child.terminate()
        child.join(_STOP_S)
    if child.is_alive():
        _kill(child)


def _kill(child: ForkServerProcess) -> None:
    """Kill a child and what it has started."""
    below = list(inside.descendants(child.pid)) if child.pid is not None else []
    child.kill()
    for pid in below:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    child.join()


def _kernel_kills() -> int:
    """How many processes the kernel has killed for want of memory since it was started; 0 where it doesn't say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _died(exitcode: int | None, log: Path, kernel_killed: bool) -> Outcome:
    """A child that went without a word: by which signal, and the last thing in its log."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        if name == "SIGKILL" and kernel_killed:
            return Outcome(status="oom", error="the kernel killed the process (SIGKILL): memory ran out")
        hint = {"SIGKILL": "; the kernel does that when memory runs out", "SIGSEGV": "; a crash in compiled code"}
        return Outcome(status="error", error=f"the process was killed by {name}{hint.get(name, '')}")
    last = (tail(log) or ["nothing in its log"])[-1]
    return Outcome(status="error", error=f"the process ended with exit code {exitcode}: {last}")


def tail(log: Path) -> list[str]:
    """The last lines of a log that say something."""
    try:
        lines = redact(log.read_text(errors="replace")).splitlines()
    except OSError:
        return []
    return [line for line in lines if line.strip()][-_LOG_TAIL:]
