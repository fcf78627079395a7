"""One run, one fresh process: clean memory figures, and nothing that dies or leaks takes anything along.

The parent imports no torch. A fork server imports torch, transformers, peft and lightning once and forks a clean
process for each run, in 0.4 s instead of the ten seconds that the imports take.
"""

import contextlib
import faulthandler
import importlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

#: Imported by the fork server. Not `datasets` nor `evaluate`: they start threads, which a fork must not meet.
_PRELOAD = "peftbench.preload"
#: Seconds that a child may go on after its result is in (sinks that are slow to close), and after being asked to stop.
_LINGER_S, _STOP_S = 60.0, 10.0
_LOG_TAIL = 15

Emit = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a child: its `result`, or a `status` (see records.STATUSES) with the `error` in one line."""

    result: Any = None
    status: str = "completed"
    error: str | None = None


def warm_up() -> None:
    """Start the fork server, so that its imports run while the parent goes on."""
    _context()
    # The server inherits this: Ctrl-C while it imports is the parent's to answer, not a traceback of the server's.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def call(
    target: str,
    *arguments: Any,
    log: Path,
    on_event: Emit = lambda event: None,
    on_result: Callable[[Any], None] = lambda result: None,
) -> Outcome:
    """Run `target` ("module:function") in a fresh process and wait for it.

    The function is called as `function(*arguments, emit)`. A dict it emits with the key `result` is its result, which
    goes to `on_result` at once: what the child does afterwards (closing sinks) has a time limit and can't lose it.
    Other events go to `on_event`.

    Args:
        log: takes all that the child prints and logs, and the stack of a crash.

    Raises:
        KeyboardInterrupt: after the child was asked to stop and has gone.
    """
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    log.parent.mkdir(parents=True, exist_ok=True)
    child = context.Process(target=_child, args=(sender, dict(os.environ), sys.path, target, arguments, str(log)))
    child.start()
    sender.close()
    try:
        outcome = _listen(child, receiver, on_event)
        if outcome is not None and outcome.result is not None:
            on_result(outcome.result)
        child.join(_LINGER_S)
    finally:
        receiver.close()
        _stop(child)
    return outcome if outcome is not None else _died(child.exitcode, log)


def _context() -> Any:
    # Also under joblib's loky workers, whose own start method children can't be made with.
    multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_PRELOAD])
    return context


def _listen(child: ForkServerProcess, receiver: Connection, on_event: Emit) -> Outcome | None:
    """Events until the result, a failure, or the end of the child (None)."""
    while True:
        ready = wait([receiver, child.sentinel])
        if receiver in ready:
            try:
                event = json.loads(receiver.recv_bytes())
            except EOFError:
                return None
            if "result" in event:
                return Outcome(result=event["result"])
            if "failed" in event:
                return Outcome(status=event["failed"], error=event["error"])
            on_event(event)
        elif not receiver.poll():
            return None


def _stop(child: ForkServerProcess) -> None:
    if child.is_alive():
        child.terminate()
        child.join(_STOP_S)
    if child.is_alive():
        child.kill()
        child.join()


def _died(exitcode: int | None, log: Path) -> Outcome:
    """A child that went without a word: by which signal, and the last thing in its log."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = {"SIGKILL": "; the kernel does that when memory runs out", "SIGSEGV": "; a crash in compiled code"}
        return Outcome(status="error", error=f"the process was killed by {name}{hint.get(name, '')}")
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    last = lines[-1] if lines else "nothing in its log"
    return Outcome(status="error", error=f"the process ended with exit code {exitcode}: {last}")


def tail(log: Path) -> list[str]:
    """The last lines of a log."""
    return log.read_text(errors="replace").splitlines()[-_LOG_TAIL:] if log.exists() else []


def _child(
    sender: Connection, environ: dict[str, str], path: list[str], target: str, arguments: tuple[Any, ...], log: str
) -> None:
    """The fresh process: log, signals and the parent's death first, then the work."""
    # The fork server's environment is of when it was started.
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:] = path
    _redirect(log)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent decides what Ctrl-C means.
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # Data workers are forked: inheriting the fork server would cost each loader 5 s.
    multiprocessing.set_start_method("fork", force=True)

    lock = threading.Lock()

    def emit(event: dict[str, Any]) -> None:
        with lock, contextlib.suppress(OSError):
            sender.send_bytes(json.dumps(event).encode())

    module, _, function = target.partition(":")
    try:
        getattr(importlib.import_module(module), function)(*arguments, emit)
    except BaseException as error:
        logging.getLogger(__name__).exception("failed")
        emit({"failed": _status(error), "error": _one_line(error)})
        os._exit(1)


def _redirect(log: str) -> None:
    """Everything this process says goes to its log, also what compiled code writes, and a crash's stack."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    faulthandler.enable(file=sys.stderr)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s", force=True
    )
    logging.captureWarnings(True)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _status(error: BaseException) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"MemoryError", "OutOfMemoryError"} or "can't allocate memory" in str(error):
        return "oom"
    return "diverged" if "Diverged" in names else "error"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:500]}" if text else type(error).__name__
