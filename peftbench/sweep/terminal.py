"""What a person sees while runs go: a bar where there is a terminal, plain lines where there is none."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from peftbench.config.types import RunConfig
from peftbench.results import activity
from peftbench.results.records import RunRecord
from peftbench.sweep import notebook, table
from peftbench.system import escape, redact
from peftbench.system.process_group import Emit

console = Console(highlight=False, soft_wrap=True)


def name(config: RunConfig) -> str:
    """A run in a few words."""
    return f"{config.method.name} · {config.model.name} · {config.dataset.name} · seed {config.seed}"


def watched_by_another() -> bool:
    """True if this is a launcher's worker in a sweep that another process watches."""
    return os.environ.get(table.WATCHED, pid := str(os.getpid())) != pid


def line(config: RunConfig, text: str) -> None:
    """One plain line about a run."""
    if console.is_terminal and watched_by_another():
        return  # That one draws on this terminal.
    console.print(escape.line(redact.redact(f"{name(config)}: {text}")), markup=False)


def outcome(config: RunConfig, record: RunRecord, seconds: float) -> None:
    """Print how a run ended, in one line; in a sweep the process that watches it does."""
    if table.WATCHED not in os.environ:
        console.print(table.ended_line(name(config), record))


def failed_launcher(launcher: str, error: Exception) -> None:
    """Print why a launcher gave up, in one line."""
    first = next(iter(str(error).strip().splitlines()), "")
    text = escape.line(redact.redact(f"hydra/launcher={launcher} failed: {type(error).__name__}: {first}"))
    console.print(text, markup=False)


def waiting(text: str) -> contextlib.AbstractContextManager[object]:
    """A spinner beside a text; nothing without a terminal."""
    return console.status(text) if console.is_terminal else contextlib.nullcontext()


@contextlib.contextmanager
def temporary_log(name: str) -> Iterator[Path]:
    """A log for a process that leaves nothing behind."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, f"{name}.log")


@contextlib.contextmanager
def progress(config: RunConfig) -> Iterator[Emit]:
    """A bar for one run, which `status` sees too; yields what takes its events. Draws nothing without a terminal, nor
    in a sweep, which has its table."""
    with activity.reporting(config, name(config)) as report, _bar(config) as draw:

        def on_event(event: dict[str, Any]) -> None:
            report(event)
            draw(event)

        yield on_event


@contextlib.contextmanager
def _bar(config: RunConfig) -> Iterator[Emit]:
    if not (console.is_terminal or console.is_jupyter) or table.WATCHED in os.environ:
        yield lambda event: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with notebook.drawn(Progress(*columns, console=console, transient=True)) as bar:
        task = bar.add_task(name(config), total=None, figures="starting")

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "phase":
                bar.reset(task, figures=event["phase"])
                bar.tasks[0].total = None  # What takes a new total doesn't take none.
                return
            if event["event"] == "progress":
                bar.update(task, completed=event["batch"], total=event["batches"])
                return
            figures = [f"loss {event['loss']:.3f}"] if event["loss"] is not None else []
            figures += [f"selection {100 * event['score']:.1f}"] if event["score"] is not None else []
            bar.update(task, completed=event["step"], total=event["steps"], figures="  ".join(figures))

        yield on_event
