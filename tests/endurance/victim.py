"""The command line with places at which it can be killed: it says that it has reached one, and waits there.

`KILL_PLAN` is a folder with `plan.json`, {"phase": ..., "after": n}: the n-th time that the phase is met, in whichever
process, a file `reached` is written. Nothing of this is in the package: the places are put around its functions.
"""

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["KILL_PLAN"])


def meet(phase: str) -> None:
    """Wait to be killed, if this is the place."""
    plan = json.loads((FOLDER / "plan.json").read_text())
    if plan["phase"] != phase:
        return
    met = FOLDER / "met"
    with met.open("ab") as stream:
        stream.write(b".")
    if met.stat().st_size == plan["after"]:
        (FOLDER / "reached").write_text(f"{phase} in process {os.getpid()}")
        time.sleep(600)


def note(file: str, text: str) -> None:
    """A line in a file that outlives all processes."""
    with (FOLDER / file).open("a") as stream:
        stream.write(f"{text}\n")


def around(function: Callable[..., Any], before: str | None, after: str | None) -> Callable[..., Any]:
    """A function with a place before it and one after it."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **more: Any) -> Any:
        if before:
            meet(before)
        result = function(*arguments, **more)
        if after:
            meet(after)
        return result

    return wrapped


def prepare_parent() -> None:
    """Places in a put (the file is whole but has no name; it has its name; its run's state is still there) and between
    runs."""
    from peftbench.results import store
    from peftbench.results.store import ResultStore
    from peftbench.sweep import hydra_launcher

    store._complete = around(store._complete, "put", "put")  # type: ignore[assignment]
    ResultStore.forget = around(ResultStore.forget, "put", None)  # type: ignore[method-assign]
    hydra_launcher.hydra_job = around(hydra_launcher.hydra_job, "between", "between")  # type: ignore[assignment]


def prepare_child() -> None:
    """Places in a step (by `trained.Stepping`), in saving a state (whole without a name; named), and around measuring
    speed."""
    from peftbench.results import scored
    from peftbench.run import run, worker
    from peftbench.system import files

    replace, ended = os.replace, worker.write_ended

    def named(source: Any, target: Any) -> None:
        state = str(target).endswith("state.pt")
        if state:
            meet("state")
        replace(source, target)
        if state:
            meet("state")

    def write_ended(unfinished: Path, record: Any) -> None:
        ended(unfinished, record)
        if scored.SPEED in scored.outstanding(record):  # Once a run: when its score is there.
            note("ended", record.key)

    class Os:
        """The module `os`, as `files` sees it."""

        def __getattr__(self, name: str) -> Any:
            return named if name == "replace" else getattr(os, name)

    files.os = Os()  # type: ignore[assignment]
    worker.write_ended = write_ended  # type: ignore[assignment]
    run.measure_speed = around(run.measure_speed, "measure", "measure")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    prepare_parent()
    from peftbench import cli

    sys.exit(cli.main())
