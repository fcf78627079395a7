"""The child's side of `process`: sets up log, signals and the watch for the parent's death, then does the work."""

import contextlib
import faulthandler
import importlib
import io
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from peftbench import errors
from peftbench.system import files, redact, spinning, stop


def main(
    sender: Connection, environ: dict[str, str], path: list[str], target: str, arguments: tuple[Any, ...], log: str
) -> None:
    """Call `target` ("module:function"), and send the parent its events and, if it raises, why. The first thing that
    runs in a forked process."""
    # The fork server's environment is of when it was started.
    os.environ.clear()
    os.environ.update(environ)
    spinning.shorten()  # As the fork server has it, for what is loaded later and for the record.
    sys.path[:] = path
    _redirect(log)
    redact.install()
    sys.argv[:] = map(redact.redact, sys.argv)  # A sink may keep the command line.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent decides what Ctrl-C means.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # Data workers are forked: inheriting the fork server would cost each loader 5 s.
    multiprocessing.set_start_method("fork", force=True)

    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):
            sender.send_bytes(json.dumps(event).encode())

    module, _, function = target.partition(":")
    try:
        stop.install()
        getattr(importlib.import_module(module), function)(*arguments, emit)
    except BaseException as error:
        logging.getLogger(__name__).exception("failed")
        emit({"failed": status_of(error), "error": in_one_line(error), "lost": _of_another(error)})
        os._exit(1)


class _Log(io.TextIOWrapper):
    """A log from which secrets are redacted. A full disk costs lines of it, not the run."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            super().write(redact.redact(text))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            super().flush()


def _redirect(log: str) -> None:
    """Send all output of this process to its log: Python's, that of compiled code, and the stack of a crash."""
    descriptor = files.open_own(Path(log), os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    # Unbuffered below: what a full disk didn't take isn't tried again with every further line.
    sys.stdout, sys.stderr = (
        _Log(io.FileIO(number, "w", closefd=False), encoding="utf-8", errors="replace", write_through=True)
        for number in (1, 2)
    )
    faulthandler.enable(file=2)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True
    )
    logging.captureWarnings(True)


def _die_with_parent() -> None:
    """Wait until the parent ends, or the fork server, without which the parent doesn't learn of this process's end;
    then end this process and all that it has started."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    watched: list[Any] = [parent.sentinel]
    with contextlib.suppress(OSError, AttributeError):  # Not on Linux.
        watched.append(os.pidfd_open(os.getppid()))
    wait(watched)
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    os._exit(1)


def descendants(pid: int) -> Iterator[int]:
    """The pids of the processes that a process has started, and of those that they have (data workers, W&B's
    service)."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def children(pid: int) -> Iterator[int]:
    """The pids of the processes that a process has started; none where the kernel doesn't list them."""
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from map(int, file.read_text().split())


def status_of(error: BaseException) -> str:
    """The record's status (`records.STATUSES`) for an error that ended the work."""
    # A rank that another rank asked to stop raises Interrupted. In a process that got SIGTERM itself, any error counts
    # as that: data workers were stopped too, and raise errors of their own.
    if stop.asked() or isinstance(error, errors.Interrupted):
        return "interrupted"
    # By name: this process may not have imported torch, and mustn't for this.
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names or errors.out_of_memory(error) or any(s in str(error) for s in _OUT_OF_MEMORY):
        return "oom"
    return "diverged" if isinstance(error, errors.Diverged) else "error"


#: How torch's CPU allocator and CUDA's libraries say that memory ran out, each in a RuntimeError.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


#: How torch.distributed says, in any error, that another rank has ended.
_LOST = ("gloo", "Connection closed by peer", "NCCL", "c10d", "store->get")


def _of_another(error: BaseException) -> bool:
    """True if an error only says that another rank has ended."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"DistError"}) or any(sign in str(error) for sign in _LOST)


def in_one_line(error: BaseException) -> str:
    text = " ".join(redact.redact(str(error)).split())[:500]
    if isinstance(error, errors.Interrupted):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
