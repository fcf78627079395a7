"""`peftbench status`: where the sweeps of a results folder stand, from another terminal."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from peftbench.config.arguments import options
from peftbench.errors import ConfigError
from peftbench.results import activity, announcements
from peftbench.sweep import table, terminal
from peftbench.system import escape

#: Columns where there is no terminal to fit.
_WIDE = 160
#: Of the runs that ended, so many are shown.
_LATEST = 5


def main(arguments: Sequence[str]) -> int:
    """Print every sweep that runs here or was stopped, then runs that belong to none."""
    root = Path(options("status", arguments)["results_dir"])
    if not root.is_dir():
        raise ConfigError(f"results_dir={root}: there is no such folder; a run makes it")
    sweeps, states = announcements.sweeps(root), activity.running(root)
    console = terminal.console
    if not console.is_terminal:
        console.width = _WIDE
    for sweep in sweeps:
        _show(root, sweep)
    shown = {run.run for sweep in sweeps for run in sweep.runs}
    alone = [state for state in states if state.run not in shown]
    if alone:
        console.print(table.table(alone, [], width=console.width))
    for file, reason in announcements.unreadable(root):
        console.print(Text(escape.line(f"{file}: {reason}")))
    if not sweeps and not states:
        nothing = f"Nothing runs in {root}, and nothing was stopped. Results: peftbench report results_dir={root}"
        console.print(Text(escape.line(nothing)))
    return 0


def _show(root: Path, sweep: announcements.SweepActivity) -> None:
    console, alive = terminal.console, sweep.owner.alive()
    standing = table.standing(root, sweep)
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(sweep.started))
    console.print(Text(escape.line(f"peftbench {sweep.line}"), "bold"))
    state = {True: "running", False: "STOPPED; the same line goes on", None: f"on {sweep.owner.host}"}[alive]
    console.print(Text(f"{escape.line(state)}, since {began}: {table.headline(standing, goes_on=alive is not False)}"))
    latest = [run for run in sweep.runs if run.run in standing.ended]
    latest.sort(key=lambda run: (root / run.record).stat().st_mtime if (root / run.record).is_file() else 0.0)
    for run in latest[-_LATEST:]:
        console.print(table.ended_line(run.name, standing.ended[run.run]))
    console.print(table.table(list(standing.running.values()), standing.waiting, width=console.width))
