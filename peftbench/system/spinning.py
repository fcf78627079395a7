"""Sets how OpenMP's threads wait for their next work: in a loop for a while, then asleep.

libgomp's threads spin for milliseconds after every parallel region. On a machine that is busy otherwise they take their
own process's time slices away, and a run becomes several times slower; with few rounds they sleep soon, which a quiet
machine doesn't notice. Source: GCC's manual of libgomp, section 3.22, GOMP_SPINCOUNT.
"""

import os

#: Rounds of the loop: a hundredth of a millisecond. libgomp's own are 300,000 (3 ms), and 100 where it has more threads
#: than there are cores; it doesn't see those of other processes.
_ROUNDS = "1000"
#: The variables by which a user decides it: libgomp's, any OpenMP's, LLVM's and Intel's.
_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "KMP_LIBRARY")


def shorten() -> None:
    """Let threads sleep soon, unless the user has said how they wait. Libraries read it when they are loaded."""
    if not policy():
        os.environ["GOMP_SPINCOUNT"] = _ROUNDS


def policy() -> dict[str, str]:
    """The variables that say how threads wait in this process; without any it is each library's own way."""
    return {name: os.environ[name] for name in _VARIABLES if name in os.environ}
