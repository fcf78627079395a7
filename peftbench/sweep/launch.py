"""From a command line to finished runs: preflight of every cell, Hydra's launcher, a summary."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import hydra

from peftbench.config import compose, paths
from peftbench.config.arguments import config_dirs
from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.reading import read
from peftbench.results.store import ResultStore
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.sweep import cells, fitting, plan, preflight, sizing, slurm, sweep, terminal, tuning
from peftbench.sweep.cells import plan as plan_cells
from peftbench.sweep.job import hydra_job
from peftbench.sweep.plan import PlannedRun
from peftbench.system import escape, process

#: Options that only show something: Hydra answers them itself.
_HYDRA_SHOWS = (
    "--cfg",
    "-c",
    "--info",
    "-i",
    "--hydra-help",
    "--shell-completion",
    "-sc",
    "--resolve",
    "--package",
    "-p",
)


@dataclass(frozen=True)
class Launched:
    """The outcome of a command line.

    Attributes:
        status: the exit status.
        runs: what it means, tuned where it says so, recorded or not; none where it only shows something.
    """

    status: int
    runs: list[PreparedRun] = field(default_factory=list)


def main(arguments: list[str]) -> int:
    """Run what a command line describes; returns the exit status."""
    return launched(arguments).status


def launched(arguments: list[str], *, alone: bool = False) -> Launched:
    """Run what a command line describes.

    Args:
        alone: whether it must describe one run; ConfigError if it describes several.
    """
    with process.stoppable():
        try:
            return _launched(arguments, alone=alone)
        finally:
            process.abandon()


def _launched(arguments: list[str], *, alone: bool) -> Launched:
    arguments, folders = config_dirs(arguments)
    if any(a.split("=")[0] in _HYDRA_SHOWS for a in arguments):
        compose.check_hydra([a for a in arguments if "=" in a and not a.startswith("-")], folders)
        return Launched(_hydra([*arguments, *compose.search_path(folders)]))
    overrides = [a for a in arguments if a not in ("-m", "--multirun")]
    multirun = len(overrides) < len(arguments)
    unknown = [a for a in overrides if a.startswith("-")]
    if unknown:
        raise ConfigError(f"{unknown[0]}: no such option; see peftbench --help")

    process.warm_up_early()  # As the command line has done; from Python nobody has.
    overrides = compose.canonical(overrides, folders)
    composed = plan_cells(overrides, multirun=multirun, config_dirs=folders)
    if alone and len(composed.cells) > 1:
        raise ConfigError(f"run: {' '.join(overrides)} describes {len(composed.cells)} runs; sweep makes several")
    composed, sizes = sizing.match(composed)
    held = fitting.hold(composed)
    composed = held.cells
    overrides += [] if composed.multirun else [*sizes, *held.words]
    memory = dict(zip(map(repr, composed.cells), held.memory, strict=True))
    ResultStore(composed.cells[0].results_dir).check_writable(composed.cells)
    composed, cells = _prepared(composed)
    by_run = [memory[repr(config)] for config in composed.cells]
    preflight.say_labels(composed.cells, cells)
    plan.check_different(cells)
    runs = plan.make(cells, composed.overrides or [[]], by_run)
    # In a sweep a method may not fit a model; but where the command line changed the method, that is why.
    changed = any(o.lstrip("+~").startswith("method.") for o in overrides)
    leave_out = composed.multirun and not changed
    planned, studies = _preflight(runs, composed, overrides, leave_out=leave_out, folders=folders)
    dry = composed.cells[0].dry_run
    if dry or composed.multirun:
        plan.show(planned, terminal.console, every_row=dry)
    if dry:
        preflight.foresee([run.cell for run in planned.todo])
        return Launched(0)
    arguments = [*overrides, *compose.search_path(folders)]
    if composed.multirun:
        return _several(arguments, runs, planned, studies)
    tries = {run.cell.key: _tries(run.cell) for run in planned.todo}
    if planned.todo:
        _hydra(arguments)
    meant = [run.cell for run in runs]
    return Launched(_summary(meant, tries), meant)


def _prepared(composed: cells.Cells) -> tuple[cells.Cells, list[PreparedRun]]:
    """Prepare every cell: find its inputs, compute its key. In a sweep, cells whose method needs a split that the data
    lacks are left out."""
    cells: list[PreparedRun] = []
    indices: list[int] = []
    reasons: dict[str, NotApplicable] = {}
    for index, config in enumerate(composed.cells):
        try:
            cells.append(prepare(config))
            indices.append(index)
        except NotApplicable as error:
            reasons[str(error)] = error
    if not cells or (reasons and not composed.multirun):
        raise next(iter(reasons.values()))
    for reason in reasons:
        terminal.console.print(f"not applicable: {reason}", markup=False, highlight=False)
    words = [composed.overrides[index] for index in indices] if composed.overrides else []
    return replace(composed, cells=[composed.cells[index] for index in indices], overrides=words), cells


def _preflight(
    runs: Sequence[PlannedRun],
    composed: cells.Cells,
    words: Sequence[str],
    *,
    leave_out: bool,
    folders: Sequence[Path],
) -> tuple[plan.Plan, list[tuning.Study]]:
    """Check all runs before the first starts; returns the plan, and the studies to tune first."""
    todo = [run for run in runs if run.cell.config.overwrite or not _done(run.cell)]
    left_out: dict[str, str] = {}
    if todo:
        process.warm_up()
        preflight.warn([run.cell for run in todo])
        left_out = preflight.verify([run.cell for run in todo], leave_out=leave_out)
        for cell in (run.cell for run in todo):
            ResultStore(cell.config.results_dir).put_not_applicable(cell.config, cell.key, left_out.get(cell.key))
    if len(left_out) == len(runs):
        raise ConfigError("no run of this command line is applicable")
    applicable = [run for run in runs if run.cell.key not in left_out]
    studies, rest = tuning.studies(applicable, folders, {run.cell.key for run in todo})
    todo = plan.estimate([*rest, *(r for study in studies for r in study.to_make())], anywhere=composed.launcher.alone)
    planned = plan.Plan(
        todo=todo,
        done=len(runs) - len(left_out) - len(todo),
        left_out=left_out,
        excluded=composed.excluded,
        launcher=slurm.sized(composed.launcher, todo, words),
        trials=sum(study.left for study in studies),
    )
    return planned, studies


def _several(
    arguments: list[str], runs: Sequence[PlannedRun], planned: plan.Plan, studies: list[tuning.Study]
) -> Launched:
    """Make a plan's runs by Hydra's launcher, and say how it went."""
    todo = {run.cell.key for run in planned.todo}
    tuned = {run.cell.key for study in studies for run in (*study.runs, *study.to_make())}
    others = {*todo, *tuned, *planned.left_out}
    before = [run for run in runs if run.cell.key not in others]
    plain = [run for run in planned.todo if run.cell.key not in tuned]
    session, broken = sweep.Sweep(arguments, planned.launcher, plain, studies, before=planned.done), False
    if not planned.todo:
        session.all_runs = session.tuned()
    else:
        try:
            session.make(runs[0].cell.config.results_dir)
        except Exception as error:  # A launcher may fail in any way of its own; what was made by then is recorded.
            terminal.failed_launcher(planned.launcher.name, error)
            session.all_runs, broken = session.all_runs or plain, True
    for run in session.hopeless:
        terminal.line(run.cell.config, "none of its trials completed; see their records under trials/")
    meant = [run.cell for run in (*before, *session.all_runs)]
    status = _summary(meant, session.tries, left_out=len(planned.left_out))
    return Launched(1 if session.hopeless or broken else status, meant)


def _done(cell: PreparedRun) -> bool:
    """True if a run is recorded; what killed processes left of it is then deleted."""
    store = ResultStore(cell.config.results_dir)
    done = store.completed(cell.config, cell.key)
    if done and not cell.config.overwrite:
        store.tidy(cell.config, cell.key)
    return done


def _tries(cell: PreparedRun) -> int:
    return len(ResultStore(cell.config.results_dir).failures(cell.config, cell.key))


def _elsewhere(cell: PreparedRun) -> bool:
    with ResultStore(cell.config.results_dir).claim(cell.key) as free:
        return not free


def _hydra(arguments: list[str]) -> int:
    """Hydra's own entry, with its launchers and logging. It reads sys.argv and leaves by SystemExit."""
    before, sys.argv = sys.argv, ["peftbench", *arguments]
    try:
        hydra.main(version_base="1.3", config_path=str(paths.CONF), config_name="config")(hydra_job)()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def _summary(cells: Sequence[PreparedRun], tries: dict[str, int], *, left_out: int = 0) -> int:
    """Say what there is now; 1 if a run failed. The records are asked, not the launcher: that is the same for every
    launcher.

    Args:
        tries: of the runs that were to be made, how many failed tries each had before.
        left_out: how many weren't applicable.
    """
    unique = list({cell.key: cell for cell in cells}.values())
    # An overwritten run that failed still has its old record.
    failed = [c for c in unique if not _done(c) or (c.config.overwrite and _tries(c) > tries.get(c.key, 0))]
    elsewhere = [c for c in failed if _elsewhere(c)]
    unrecorded = [c for c in failed if c not in elsewhere and _tries(c) == tries.get(c.key, 0)]
    failed = [c for c in failed if c not in elsewhere and c not in unrecorded]
    rest = [*failed, *elsewhere, *unrecorded]
    completed = len(unique) - len(rest)
    ran = sum(c.key in tries and c not in rest for c in unique)
    others = f", {len(elsewhere)} being run by another process" if elsewhere else ""
    others += f", {len(unrecorded)} without a record" if unrecorded else ""
    others += f", {left_out} not applicable" if left_out else ""
    terminal.console.print(f"{completed} completed ({ran} now, {completed - ran} before), {len(failed)} failed{others}")
    for cell in failed:
        failures = ResultStore(cell.config.results_dir).failures(cell.config, cell.key)
        reason = getattr(read(failures[-1]), "error", None)
        terminal.line(cell.config, f"failed: {reason}")
    for root in sorted({cell.config.results_dir for cell in cells}):
        _compare(root, [c for c in unique if c not in rest and c.config.results_dir == root])
    return 1 if failed or unrecorded else 0


def _compare(root: str, recorded: Sequence[PreparedRun]) -> None:
    """Show the scores of recorded runs, if they are several, and how one comes to the leaderboard and its page."""
    if len(recorded) > 1:
        from peftbench.results.report import command  # Brings numpy and scipy, which a start does without.

        store = ResultStore(root)
        scores = command.of_runs(Path(root), [store.record_file(cell.config, cell.key) for cell in recorded])
        terminal.console.print(f"\n{scores}", markup=False, highlight=False, soft_wrap=True)
    line = f"python -m peftbench report results_dir={escape.line(root)}"
    terminal.console.print(f"Leaderboard and page: {line}", markup=False, highlight=False, soft_wrap=True)
