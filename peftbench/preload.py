"""What the fork server imports once for all runs. Anything here must start no thread that a fork would lose."""

import contextlib
import logging
import os
import signal
import sys
import traceback
from types import TracebackType

from peftbench.crew import NO_MEMORY
from peftbench.errors import out_of_memory
from peftbench.isolate import PARENTS

# First of all: it was started with these blocked (`isolate.warm_up`).
for _number in PARENTS:
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)

# Tokenizers would start threads and then complain of every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from peftbench import spinning  # noqa: E402

spinning.shorten()  # Before torch brings libgomp, which looks once.

# It looks for compiled kernels on the hub and says on the terminal that there are none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# On the terminal a failed import is many lines, of which the parent's is enough; a process that is forked tries again,
# and has a log.
_terminal, _nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
os.dup2(_nowhere, 2)
os.close(_nowhere)


def _cannot_begin(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say why a forked process ended before it had a log: want of memory by its exit code, else on the terminal."""
    if out_of_memory(error):
        os._exit(NO_MEMORY)
    os.write(_terminal, "".join(traceback.format_exception(kind, error, trace)).encode(errors="replace"))


sys.excepthook = _cannot_begin
with contextlib.suppress(Exception):
    import lightning  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import peftbench.methods  # noqa: F401
    import peftbench.worker  # noqa: F401
