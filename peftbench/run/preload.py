"""What the fork server imports once for all runs. Nothing here may start a thread: a fork would lose it."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import traceback
from types import FrameType, TracebackType

from peftbench.errors import out_of_memory
from peftbench.system.process import PARENTS
from peftbench.system.process_group import NO_MEMORY

#: Seconds in which a process that waits already is forked, before the server imports the rest.
_FIRST_S = 0.1

# First of all: the fork server was started with these signals blocked (`process.warm_up`).
for _number in PARENTS:
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)

# Tokenizers would start threads, and then warn at every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from peftbench.system import spinning  # noqa: E402

spinning.shorten()  # Before torch brings libgomp, which looks once.

# bitsandbytes looks for compiled kernels on the hub, and warns on the terminal that there are none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# A failed import is many lines on the terminal, where the parent says one; a forked process imports again, and has a
# log.
_terminal, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
os.close(_nowhere)


def _cannot_begin(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell why a forked process ended before it had a log: out of memory by its exit code, else on the terminal."""
    if out_of_memory(error):
        os._exit(NO_MEMORY)
    os.write(_terminal, "".join(traceback.format_exception(kind, error, trace)).encode(errors="replace"))


def _go_on(number: int, frame: FrameType | None) -> None:
    """Import the rest, between two forks."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with contextlib.suppress(Exception):
        imports.later()


sys.excepthook = _cannot_begin
with contextlib.suppress(Exception):
    from peftbench.run import imports

    imports.first()
    # Who waits is served first: the check before the runs has no use for the rest, which is imported beside it. A
    # timer isn't inherited by a fork, and a thread would be lost by it.
    signal.signal(signal.SIGALRM, _go_on)
    signal.setitimer(signal.ITIMER_REAL, _FIRST_S)
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # At its end the process has no handler any more.
