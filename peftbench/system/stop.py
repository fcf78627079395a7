"""Answers SIGTERM, which asks a run to stop: at once, or where the run can save its work.

While a run trains (`deferred`), it goes on to the end of the step, saves its state and ends. Otherwise there is nothing
to save, and the signal raises Interrupted where the run is.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from peftbench.errors import Interrupted


class _Asked:
    asked = False
    deferred = False


_state = _Asked()


def install() -> None:
    """Handle SIGTERM in this process from now on."""
    signal.signal(signal.SIGTERM, _on_signal)


def asked() -> bool:
    """True if this process got SIGTERM."""
    return _state.asked


def check() -> None:
    """Raise Interrupted if this process got SIGTERM, as may have happened within `deferred`."""
    if asked():
        raise Interrupted("stopped while it wasn't training")


def ask(asked: bool = True) -> None:
    """Set what `asked` says, as the signal does within `deferred`; `False` takes it back."""
    _state.asked = asked


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Keeps SIGTERM from raising anything while entered: the code asks `asked` where it can stop."""
    _state.deferred = True
    try:
        yield
    finally:
        _state.deferred = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    first, _state.asked = not _state.asked, True
    if first and not _state.deferred:
        raise Interrupted("stopped while it wasn't training")
