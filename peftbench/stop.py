"""A process that is asked to stop: at once, or where it can save its work. Free of torch.

A run is asked by SIGTERM. While it trains it goes on to the end of the step, saves its state and leaves; otherwise
there is nothing to save, and it leaves where it is.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class Interrupted(Exception):
    """The run was asked to stop."""


class _Asked:
    asked = False
    deferred = False


_state = _Asked()


def install() -> None:
    """Take SIGTERM as the question, in this process from now on."""
    signal.signal(signal.SIGTERM, _on_signal)


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _state.asked


def check() -> None:
    """Raises Interrupted if this process was asked to stop, as it may have been while that was deferred."""
    if asked():
        raise Interrupted("stopped while it wasn't training")


def ask(asked: bool = True) -> None:
    """What the signal does to a run that can be asked later; `False` takes it back."""
    _state.asked = asked


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Within this, the question waits until `asked` is looked at."""
    _state.deferred = True
    try:
        yield
    finally:
        _state.deferred = False


def _on_signal(number: int, frame: FrameType | None) -> None:
    first, _state.asked = not _state.asked, True
    if first and not _state.deferred:
        raise Interrupted("stopped while it wasn't training")
