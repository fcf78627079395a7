"""What the fork server imports once for all runs. Anything here must start no thread that a fork would lose."""

import logging
import os

# Tokenizers would start threads and then complain of every fork.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from peftbench import spinning  # noqa: E402

spinning.shorten()  # Before torch brings libgomp, which looks once.

# It looks for compiled kernels on the hub and says on the terminal that there are none.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

import lightning  # noqa: E402, F401
import torch  # noqa: E402, F401
import transformers  # noqa: E402, F401

import peftbench.methods  # noqa: E402, F401
import peftbench.worker  # noqa: E402, F401
