"""One run, one fresh process: clean memory figures, and nothing that dies or leaks takes anything along.

The parent imports no torch. A fork server imports torch, transformers, peft and lightning once and forks a clean
process for each run, in 0.4 s instead of the ten seconds that the imports take.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from peftbench.errors import Failed
from peftbench.system import machine, multiprocessing_compat
from peftbench.system.process_group import STOP_S, Crew, Emit, Outcome

#: Imported by the fork server, by name: this room knows nothing of what it runs. Not `datasets` nor `evaluate`: they
#: start threads, which a fork must not meet.
PRELOAD = "peftbench.run.preload"
#: Seconds that a child may go on after its result is in (sinks that are slow to close), and after it failed.
_LINGER_S, _FAILED_S = 60.0, 2.0
#: What asks a process to stop: Ctrl-C, a scheduler, a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What only the parent answers, of all processes that a scheduler sends it to. SIGUSR1 and SIGUSR2 announce a time
#: limit or a preemption; unanswered they kill.
PARENTS = (*SIGNALS, signal.SIGUSR1, signal.SIGUSR2)
#: Seconds within which a second SIGTERM is the first one's: a scheduler asks every process, and a parent passes it on.
_SAME_S = 2.0
#: Seconds after which a process that closed its connections can be seen to have ended.
_REAP_S = 0.5


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or a signal that means the same, came while a child ran; it has gone by now.

    Attributes:
        outcome: what became of it.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


class _StopRequest:
    """The time at which this process was last asked to stop by SIGTERM or SIGHUP (`time.monotonic`); whether it is
    leaving already."""

    at = float("-inf")
    leaving = False


class _Server:
    """The fork server's state: whether a process was asked of it."""

    used = False


_asked = _StopRequest()


def _stop(number: int, frame: FrameType | None) -> None:
    again, _asked.at = time.monotonic() - _asked.at < _SAME_S, time.monotonic()
    if not (again or _asked.leaving):
        raise KeyboardInterrupt


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Makes SIGTERM (a scheduler) and SIGHUP (a closed terminal), while entered, raise KeyboardInterrupt, as Ctrl-C
    does.

    A launcher's own handlers of SIGUSR1 and SIGUSR2 stay. submitit's has the job put in the queue again and leaves by
    SystemExit; the SIGTERM by which Slurm then ends the job is no second question. Where it fails instead, the process
    is asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        handler = before[number]
        assert callable(handler)
        _asked.leaving = True
        try:
            handler(number, frame)
        except Exception as error:  # submitit's, at a time limit after which nothing is put in the queue again.
            raise KeyboardInterrupt from error
        _asked.leaving = False  # It didn't leave.

    before: dict[int, Any] = {number: signal.getsignal(number) for number in PARENTS if number != signal.SIGINT}
    for number, handler in before.items():
        if number in SIGNALS and handler != signal.SIG_IGN:  # `nohup` means it.
            signal.signal(number, _stop)
        elif number not in SIGNALS and callable(handler):
            signal.signal(number, leave)
    try:
        yield
    finally:
        _asked.leaving = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _leaving() -> Iterator[None]:
    """Ignores a further SIGTERM or SIGHUP while entered; Ctrl-C still counts."""
    before, _asked.leaving = _asked.leaving, True
    try:
        yield
    finally:
        _asked.leaving = before


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Block the signals that ask to stop, until the end of this: for steps that belong together."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Puts an empty `__main__` in place while entered: processes that are started would import a script, which would
    call for them again."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def warm_up() -> None:
    """Start the fork server unless it runs, so that its imports run while the parent goes on."""
    _context()
    machine.make_socket_folder()
    # What stops the parent is the parent's to answer, not a traceback of the server's; and without the server the
    # parent couldn't see its child end. The server inherits what is blocked here, until `preload` ignores it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)
    try:
        # Neither module is documented: multiprocessing itself would call both, but only at the first child.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)  # Starting the tracker unblocks some.
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm_up_early() -> None:
    """`warm_up`, if it is known whether the hub answers: huggingface_hub takes note of that when it is imported."""
    if "HF_HUB_OFFLINE" in os.environ:
        warm_up()


def abandon() -> None:
    """End a fork server that was started and not used: it would go on importing, which nobody waits for."""
    pid = multiprocessing_compat.server_pid()
    if pid is not None and not _Server.used:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def call(
    target: str,
    *arguments: Any,
    log: Path,
    devices: int = 1,
    on_event: Emit = lambda event: None,
    on_result: Callable[[Any], None] = lambda result: None,
    on_stop: Callable[[], None] = lambda: None,
    grace_s: float = STOP_S,
    timeout_s: float | None = None,
) -> Outcome:
    """Run `target` ("module:function") in a fresh process, or one for each device, and wait for it.

    The function is called as `function(*arguments, emit)`. A dict it emits with the key `result` is its result, which
    goes to `on_result` at once: what the child does afterwards (closing sinks) has a time limit and can't lose it.
    Other events go to `on_event`. Of several processes, rank 0's events and result count; see `process_group`.

    Args:
        log: takes all that the child prints and logs, and the stack of a crash; other ranks have theirs beside it.
        on_stop: called when this process is asked to stop, before the child is.
        grace_s: seconds that the child then has. Asked again by Ctrl-C, this process doesn't wait for it.
        timeout_s: seconds until the child is killed; None: as long as it takes.

    Raises:
        Stopped: this process was asked to stop, and the child has ended.
        Failed: no process can be started.
    """
    _Server.used = True
    crew = _crew(target, arguments, log=log, devices=devices)
    try:
        try:
            outcome = crew.listen(on_event, timeout_s)
        except TimeoutError:
            crew.kill()
            return Outcome(status="timeout", error=f"no result after {timeout_s:g} s (timeout_s)")
        except KeyboardInterrupt:
            raise Stopped(_ask_to_stop(crew, grace_s, on_stop, on_result)) from None
        except SystemExit:  # A launcher's handler of a signal leaves so, to be started again later.
            _ask_to_stop(crew, grace_s, lambda: None, on_result)
            raise
        if outcome.result is not None:
            on_result(outcome.result)
        completed = outcome.status == "completed"
        crew.join(_LINGER_S if completed else _FAILED_S)
        if not completed:
            crew.kill()  # Ranks that wait for one that failed can't be asked.
    finally:
        crew.end()
    return outcome


def _ask_to_stop(crew: Crew, grace_s: float, on_stop: Callable[[], None], on_result: Callable[[Any], None]) -> Outcome:
    """Have the processes of a call end, as `call` says of its arguments; returns what became of them."""
    with _leaving():
        on_stop()
        outcome = crew.ask_to_stop(grace_s)
    if outcome.result is not None:
        on_result(outcome.result)
    return outcome


def _crew(target: str, arguments: tuple[Any, ...], *, log: Path, devices: int) -> Crew:
    """Start the processes of a call. A fork server that has been killed is started again, once.

    Raises:
        Failed: they can't be started.
    """
    for again in (False, True):
        warm_up()
        try:
            return Crew(_context(), target, arguments, log=log, devices=devices)
        except (EOFError, ConnectionError) as error:
            if again:
                why = str(error) or "it ended at its start"
                raise Failed(f"no process can be started: the fork server was killed or lacks memory ({why})") from None
            time.sleep(_REAP_S)
    raise AssertionError


def _context() -> Any:
    # Also under joblib's loky workers: their own start method can't make children.
    multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context
