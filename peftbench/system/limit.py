"""A time limit for a piece of work, which is dropped when its time is over."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

#: In a run's process nothing else uses this signal.
_SIGNAL = signal.SIGUSR1


class _TimeOver(BaseException):
    """No Exception: libraries catch those, and go on."""


@contextlib.contextmanager
def until(end: float) -> Iterator[None]:
    """Drops the main thread's work, while entered, at `end`, between two of Python's instructions: one call into
    compiled code, such as a matrix product, comes to its end. Other threads can't be interrupted, and aren't.

    Args:
        end: of `time.monotonic`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main, working = threading.get_ident(), True

    def drop(number: int, frame: FrameType | None) -> None:
        if working:
            raise _TimeOver

    before = signal.signal(_SIGNAL, drop)
    timer = threading.Timer(max(0.0, end - time.monotonic()), signal.pthread_kill, (main, _SIGNAL))
    timer.daemon = True
    try:
        with contextlib.suppress(_TimeOver):
            try:
                timer.start()
                yield
            finally:
                working = False
    finally:
        timer.cancel()
        timer.join()  # What it sent by then is still ours.
        signal.signal(_SIGNAL, before)
