"""What the fork server imports once for all runs. Anything here must start no thread that a fork would lose."""

import logging
import os
import signal

from peftbench.isolate import PARENTS

# First of all: it was started with these blocked (`isolate.warm_up`).
for _number in PARENTS:
    signal.signal(_number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS)

# Tokenizers would start threads and then complain of every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# It looks for compiled kernels on the hub and says on the terminal that there are none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# On the terminal a failed import is many lines, of which the parent's is enough; a process that is forked tries again,
# and has a log.
_terminal = os.dup(2)
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
try:
    import lightning  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import peftbench.methods  # noqa: F401
    import peftbench.worker  # noqa: F401
except Exception:
    logging.getLogger(__name__).debug("not imported", exc_info=True)
finally:
    os.dup2(_terminal, 2)
    os.close(_terminal)
