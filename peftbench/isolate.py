"""One run, one fresh process: clean memory figures, and nothing that dies or leaks takes anything along.

The parent imports no torch. A fork server imports torch, transformers, peft and lightning once and forks a clean
process for each run, in 0.4 s instead of the ten seconds that the imports take.
"""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import FrameType
from typing import Any

from peftbench.crew import STOP_S, Crew, Emit, Outcome

#: Imported by the fork server. Not `datasets` nor `evaluate`: they start threads, which a fork must not meet.
_PRELOAD = "peftbench.preload"
#: Seconds that a child may go on after its result is in (sinks that are slow to close), and after it failed.
_LINGER_S, _FAILED_S = 60.0, 2.0
#: What asks a process to stop: Ctrl-C, a scheduler, a terminal that is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
    Other events go to `on_event`. Of several processes, rank 0's events and result count; see `crew`.

    Args:
        log: takes all that the child prints and logs, and the stack of a crash; other ranks have theirs beside it.
        on_stop: called when this process is asked to stop, before the child is.
        grace_s: seconds that the child then has. Asked again, this process doesn't wait for it.
        timeout_s: seconds until the child is killed; None: as long as it takes.

    Raises:
        Stopped: this process was asked to stop, and the child has gone.
    """
    crew = Crew(_context(), target, arguments, log=log, devices=devices)
    try:
        try:
            outcome = crew.listen(on_event, timeout_s)
        except TimeoutError:
            crew.kill()
            return Outcome(status="timeout", error=f"no result after {timeout_s:g} s (timeout_s)")
        except KeyboardInterrupt:
            on_stop()
            outcome = crew.ask_to_stop(grace_s)
            if outcome.result is not None:
                on_result(outcome.result)
            raise Stopped(outcome) from None
        if outcome.result is not None:
            on_result(outcome.result)
        completed = outcome.status == "completed"
        crew.join(_LINGER_S if completed else _FAILED_S)
        if not completed:
            crew.kill()  # Ranks that wait for one that failed can't be asked.
    finally:
        crew.end()
    return outcome


def _context() -> Any:
    # Also under joblib's loky workers, whose own start method children can't be made with.
    multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    return context
