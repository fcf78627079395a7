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

import lightning  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers  # noqa: E402, F401

import peftbench.methods  # noqa: E402, F401
import peftbench.worker  # noqa: E402, F401
