"""A multirun whose cells were checked, from its first run to its last."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from peftbench.results import activity, announcements
from peftbench.results.store import ResultStore
from peftbench.sweep import hydra_launcher, table, terminal, tuning
from peftbench.sweep.launchers import Launcher
from peftbench.sweep.plan import PlannedRun


@dataclass
class Sweep:
    """The runs that a command line wants made.

    Attributes:
        arguments: the command line, with Hydra's search path.
        runs: as they are; `studies`: to be tuned first.
        before: how many runs were recorded already.
        all_runs: afterwards, all that was to be made, tuned runs among them.
        tries: of those that weren't recorded, the failed tries each had before.
        hopeless: runs whose tuning had no trial that completed.
    """

    arguments: list[str]
    launcher: Launcher
    runs: list[PlannedRun]
    studies: Sequence[tuning.Study]
    before: int
    all_runs: list[PlannedRun] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    hopeless: list[PlannedRun] = field(default_factory=list)

    def make(self, root: str) -> None:
        """Make the runs by Hydra's launcher, watched; a run's failure is its record, and stops nothing."""
        line = " ".join(a for a in self.arguments if not a.startswith("hydra.searchpath="))
        shown = announcements.SweepActivity(activity.me(), line, time.time(), self.launcher.at_once, self.before)
        with (
            hydra_launcher.launching(self.arguments, self.launcher) as launch,
            table.watching(root, shown, terminal.console) as change,
        ):
            later = len(self.runs) + sum(study.left + len(study.to_make()) for study in self.studies)

            def go(runs: Sequence[PlannedRun], *, undecided: bool) -> None:
                nonlocal shown, later
                later = later - len(runs) if undecided else 0
                left = [run for run in runs if run.cell.config.overwrite or not tuning.recorded(run)]
                self.tries |= {run.cell.key: len(_store(run).failures(run.cell.config, run.cell.key)) for run in left}
                shown = replace(shown, runs=[*shown.runs, *_planned(root, left)], undecided=undecided, later=later)
                change(shown)
                if left:
                    launch([run.words for run in left])

            for asked in tuning.rounds(self.studies):
                go([run for _, run in asked], undecided=True)
            for study in self.studies:
                study.keep()
            self.hopeless = [run for study in self.studies if not study.finals() for run in study.runs]
            self.all_runs = [*self.runs, *self.tuned()]
            go(self.all_runs, undecided=False)

    def tuned(self) -> list[PlannedRun]:
        """The runs with the best values, of studies whose trials were made."""
        return [run for study in self.studies for run in study.finals()]


def _store(run: PlannedRun) -> ResultStore:
    return ResultStore(run.cell.config.results_dir)


def _planned(root: str, runs: Sequence[PlannedRun]) -> list[announcements.ExpectedRecord]:
    return announcements.planned(
        root, [(run.cell.config, run.cell.key, run.name) for run in runs], [r.estimate_s for r in runs]
    )
