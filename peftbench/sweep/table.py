"""The table of a sweep while it runs: what runs, how far it is, what it scores so far, how long it may take."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from peftbench.results import activity, announcements
from peftbench.results.activity import RunActivity
from peftbench.results.announcements import ExpectedRecord, SweepActivity
from peftbench.results.records import RunRecord
from peftbench.sweep import notebook
from peftbench.sweep.estimates import in_words
from peftbench.system import redact
from peftbench.system.escape import line

#: Says to this process and those that a launcher starts that a sweep is being watched, by its process id.
WATCHED = "PEFTBENCH_WATCHED"
_EVERY_S = 0.5
#: Rows for runs that wait; for the rest there is a count.
_WAITING = 3
#: Columns of a terminal from which on there is room for bars.
_FOR_BARS = 100


@dataclass(frozen=True)
class SweepProgress:
    """The state of a sweep."""

    sweep: SweepActivity
    ended: dict[str, RunRecord]
    running: dict[str, RunActivity]

    @property
    def waiting(self) -> list[ExpectedRecord]:
        return [run for run in self.sweep.runs if run.run not in self.ended and run.run not in self.running]

    def left_s(self) -> float | None:
        """Seconds until the end: what the running ones have left and the waiting ones take, so many at a time. A run
        that nothing is known of is taken to be as long as this sweep's others were."""
        seconds_of_ended = [seconds for r in self.ended.values() if (seconds := (r.efficiency or {}).get("run_time_s"))]
        usual = sum(seconds_of_ended) / len(seconds_of_ended) if seconds_of_ended else None
        expected = {p.run: p.estimate_s or usual for p in self.sweep.runs}
        parts = [expected[run.run] for run in self.waiting]
        if self.sweep.later:
            parts.append(None if usual is None else usual * self.sweep.later)
        for run, state in self.running.items():
            planned, spent = expected[run], time.time() - state.since
            parts.append(max(0.0, planned - spent) if planned is not None else state.left_s())
        if any(part is None for part in parts):
            return None
        return sum(part for part in parts if part is not None) / (self.sweep.at_once or max(1, len(self.running)))


def standing(root: str | os.PathLike[str], sweep: SweepActivity) -> SweepProgress:
    """The state of a sweep by its files: records of ended runs, status files of running ones."""
    states = {state.run: state for state in activity.running(root)}
    ended = {
        run.run: record for run in sweep.runs if (record := announcements.ended(root, run, sweep.started)) is not None
    }
    # Of a trial the sweep knows which one it is.
    now = {
        run.run: replace(states[run.run], name=run.name)
        for run in sweep.runs
        if run.run in states and run.run not in ended
    }
    return SweepProgress(sweep, ended, now)


def headline(state: SweepProgress, *, goes_on: bool = True) -> str:
    """A sweep in one line."""
    early = sum(record.status == "pruned" for record in state.ended.values())
    failed = sum(record.status != "completed" for record in state.ended.values()) - early
    total = state.sweep.before + len(state.sweep.runs) + state.sweep.later
    parts = [f"{state.sweep.before + len(state.ended) - failed} of {total} runs completed"]
    parts[0] += f" ({early} ended early)" if early else ""
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{len(state.running)} running"] if state.running else []
    waiting = len(state.waiting) + state.sweep.later
    parts += [f"{waiting} waiting"] if waiting else []
    left = state.left_s()
    if goes_on and (state.running or waiting):
        parts.append(f"about {in_words(left)} left" if left is not None else "time left unknown yet")
    return ", ".join(parts)


def table(running: Sequence[RunActivity], waiting: Sequence[ExpectedRecord], *, width: int) -> Table:
    """Running and waiting runs as rows.

    Args:
        width: columns of the terminal. In a narrow one there are no bars, and names go on in a second line: no figure
            is cut.
    """
    grid = Table(box=None, pad_edge=False, header_style="dim", expand=False)
    grid.add_column("run")
    bars = [("", 4)] if width >= _FOR_BARS else []
    for title, least in (("state", 9), *bars, ("loss", 5), ("selection", 9), ("time", 6), ("left", 6)):
        justify: JustifyMethod = "left" if title in ("state", "") else "right"
        grid.add_column(title, no_wrap=True, min_width=least, justify=justify)
    for state in running:
        grid.add_row(*_row(state, bars=bool(bars)))
    for run in waiting[:_WAITING]:
        estimate = in_words(run.estimate_s) if run.estimate_s is not None else ""
        grid.add_row(
            Text(line(run.name)), Text("waiting", "dim"), *["" for _ in bars], "", "", "", Text(estimate, "dim")
        )
    if len(waiting) > _WAITING:
        grid.add_row(Text(f"and {len(waiting) - _WAITING} more", "dim"), *[""] * (len(grid.columns) - 1))
    return grid


def _row(state: RunActivity, *, bars: bool) -> list[RenderableType]:
    done, total = (state.step, state.steps) if state.phase == "training" else (state.batch, state.batches)
    bar: RenderableType = ProgressBar(total=total, completed=done or 0, width=16) if total else ""
    where = f"{done or 0}/{total}" if total and state.phase == "training" else state.phase
    left = state.left_s()
    quiet = time.time() - state.updated
    if state.owner.alive() is None and quiet > 120:
        where = f"last heard of {in_words(quiet)} ago"
    return [
        Text(line(state.name)),
        Text(line(where)),
        *([bar] if bars else []),
        "" if state.loss is None else f"{state.loss:.3f}",
        "" if state.score is None else f"{100 * state.score:.1f}",
        in_words(time.time() - state.since),
        "" if left is None or state.phase != "training" else in_words(left),
    ]


def ended_line(name: str, record: RunRecord) -> Text:
    """The line that says how a run ended."""
    if record.status != "completed":
        where = f" (log: {record.log})" if record.log and record.status != "pruned" else ""
        error = line(f", {redact.redact(str(record.error))}{where}")
        return Text.assemble(
            line(f"{name}: "), (record.status, "bold" if record.status == "pruned" else "bold red"), error
        )
    took = (record.efficiency or {}).get("run_time_s")
    # Of a model that isn't here nobody knows.
    trained = "" if record.params is None else f", {record.params.get('trainable') or 0:,} trained"
    metrics = " + ".join(record.config["dataset"].get("metrics", {}))
    score = ("unscored" if record.score is None else f"{100 * record.score:.1f}", "bold green")
    return Text.assemble(line(f"{name}: "), score, line(f" {metrics}{trained}, {in_words(took)}"))


@contextlib.contextmanager
def watching(root: str, sweep: SweepActivity, console: Console) -> Iterator[Callable[[SweepActivity], None]]:
    """Shows, while a sweep runs, a line for every run that ends, and on a terminal the table below; yields what takes
    the sweep with more runs. A thread that looks at files, so that it is the same for every launcher."""
    from rich.live import Live  # Takes over the terminal: only here.

    watcher, stop = _Watcher(root, sweep, console), threading.Event()
    os.environ[WATCHED] = str(os.getpid())
    with announcements.announced(root, sweep) as announce:

        def change(changed: SweepActivity) -> None:
            announce(changed)
            watcher.sweep = changed

        # Redirected output would be drawn over: libraries print too.
        screen: Live | notebook.Screen = Live(watcher.look(), console=console, auto_refresh=False, transient=True)
        if console.is_jupyter:
            screen = notebook.Screen()
        with screen if watcher.draws else contextlib.nullcontext():
            thread = threading.Thread(target=watcher.run, args=(stop, screen), daemon=True)
            thread.start()
            try:
                yield change
            finally:
                stop.set()
                thread.join()
                del os.environ[WATCHED]
                watcher.look()


class _Watcher:
    """Draws a sweep's table again and again, and prints one line for each run that has ended."""

    def __init__(self, root: str, sweep: SweepActivity, console: Console) -> None:
        self.root, self.sweep, self.console = root, sweep, console
        self.draws = console.is_terminal or console.is_jupyter
        self._announced: set[str] = set()

    def run(self, stop: threading.Event, screen: "Live") -> None:  # type: ignore[name-defined]  # noqa: F821
        while not stop.wait(_EVERY_S):
            shown = self.look()
            if self.draws:
                screen.update(shown, refresh=True)

    def look(self) -> RenderableType:
        """Say what has ended since the last look; returns what to show of the rest."""
        now = standing(self.root, self.sweep)
        for run in self.sweep.runs:
            if run.run in now.ended and run.run not in self._announced:
                self._announced.add(run.run)
                self.console.print(ended_line(run.name, now.ended[run.run]))
        return Group(
            Text(headline(now), "bold"), table(list(now.running.values()), now.waiting, width=self.console.width)
        )
