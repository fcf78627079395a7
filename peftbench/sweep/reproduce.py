"""`peftbench reproduce`: published rows are run and judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from peftbench.config import experiments, paths
from peftbench.config.arguments import config_dirs
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, nearest
from peftbench.results.records import RunRecord
from peftbench.results.report.load import load
from peftbench.results.reproduction import match, table
from peftbench.results.reproduction.match import JudgedRow
from peftbench.results.store import ResultStore
from peftbench.run.prepared import prepare
from peftbench.sweep import claims_list, counting, finding, launch
from peftbench.sweep.cells import plan as plan_cells
from peftbench.system import redact

#: Keys of the command's own.
_TRAIN = "train"


def main(arguments: Sequence[str]) -> int:
    """0: reproduced or compatible; 1: lower or higher, or a run failed; 3: no verdict."""
    rest, folders = config_dirs(list(arguments))
    keys = {word.partition("=")[0] for word in rest}
    if rest[:1] == ["counts"]:
        return counting.main(rest[1:], folders)
    if "finding" in keys:
        return finding.main(rest, folders)
    if "experiment" in keys:
        return _reproduce(rest, folders)
    return claims_list.main(rest, folders)


@dataclass(frozen=True)
class Asked:
    """A request to reproduce, as a command line makes it.

    Attributes:
        words: Hydra's, without data set, seed and the command's own.
        seeds: as they were written; None: the paper's number.
        folders: further folders laid out like conf/.
    """

    experiment: str
    datasets: list[str]
    words: list[str]
    seeds: str | None
    train: bool
    folders: list[Path]

    def line(self, dataset: str, *extra: str) -> list[str]:
        """A command line of one data set."""
        folders = [f"--config-dir={folder}" for folder in self.folders]
        return [*folders, f"experiment={self.experiment}", f"dataset={dataset}", *self.words, *extra]


def _reproduce(arguments: Sequence[str], folders: Sequence[Path]) -> int:
    """Run what isn't recorded of an experiment, and judge it."""
    asked = request(arguments, folders)
    statuses, shown = [], []
    for dataset in asked.datasets:
        composed = first_run(asked, dataset)
        if asked.train:
            statuses.append(_run(asked, dataset, composed))
        if not composed.dry_run:
            shown.append(_judged(asked, dataset, composed))
    for row in shown:
        print(redact.redact(table.detail(row)))
    verdicts = [row.verdict.status for row in shown]
    return max(statuses, default=0) or (1 if 1 in verdicts else max(verdicts, default=0))


def request(arguments: Sequence[str], folders: Sequence[Path]) -> Asked:
    values: dict[str, str | None] = dict.fromkeys(("experiment", "dataset", "seed", _TRAIN))
    words = []
    for word in arguments:
        key, _, value = word.partition("=")
        if key in values:
            values[key] = value
        elif word not in ("-m", "--multirun"):
            words.append(word)
    experiment, train = values["experiment"], values[_TRAIN]
    if train not in (None, "true", "false"):
        raise ConfigError(f"{_TRAIN}={train}: allowed is true | false")
    if not experiment or "," in experiment:
        raise ConfigError(f"experiment={experiment or ''}: one experiment at a time; reproduce alone lists them")
    every = experiments.claims(folders)
    claimed = {claim.experiment for claim in every}
    if experiment not in paths.choices("experiment", folders):
        raise ConfigError(f"experiment={experiment}: no such experiment; {nearest(experiment, sorted(claimed))}")
    datasets = [claim.dataset for claim in every if claim.experiment == experiment]
    if (chosen := values["dataset"]) is not None:
        datasets = chosen.split(",")
    elif not datasets:
        raise ConfigError(f"experiment={experiment}: names no data set; dataset= does")
    return Asked(experiment, datasets, words, values["seed"], train != "false", list(folders))


def first_run(asked: Asked, dataset: str) -> RunConfig:
    """The run of one data set, with the first seed."""
    words = [word for word in asked.line(dataset) if not word.startswith("--config-dir")]
    cells = plan_cells(words, multirun=False, config_dirs=asked.folders).cells
    if len(cells) != 1:
        raise ConfigError("reproduce: one run is described by one value a key (seeds and data sets may be several)")
    return cells[0]


def _run(asked: Asked, dataset: str, composed: RunConfig) -> int:
    """Make the runs of a data set that aren't recorded, the one that they start from before; returns the status."""
    extra = []
    if composed.start is not None and composed.start_from is None:
        start, dataset_before = replace(asked, experiment=composed.start["experiment"]), composed.start["dataset"]
        before = _start(start, dataset_before)
        if before is None:
            status = launch.main(start.line(dataset_before, "seed=0", "save_adapters=true"))
            if composed.dry_run:
                print(f"then dataset={dataset} seed={_seed_words(asked, composed)}, from that run's weights")
            if status != 0 or composed.dry_run:
                return status
            before = _start(start, dataset_before)
        extra = [f"start_from={before}"]
    return launch.main(asked.line(dataset, f"seed={_seed_words(asked, composed)}", *extra))


def _start(asked: Asked, dataset: str) -> Path | None:
    """The record of the run that others start from; None: there is none with its weights."""
    cell = prepare(first_run(asked, dataset))
    store = ResultStore(cell.config.results_dir)
    if not store.completed(cell.config, cell.key):
        return None
    file = store.record_file(cell.config, cell.key)
    weights = store.weights_of(file)
    return file if weights is not None and weights.is_dir() else None


def _seed_words(asked: Asked, composed: RunConfig) -> str:
    """The seeds to run, as a command line has them."""
    if asked.seeds is not None:
        return asked.seeds
    expected = composed.expected
    count = claims_list.seeds(expected)
    return ",".join(map(str, range(count)))


def _judged(asked: Asked, dataset: str, composed: RunConfig) -> JudgedRow:
    official = experiments.official(asked.experiment, dataset, asked.folders)
    root = Path(composed.results_dir)
    records: list[RunRecord] = load(root).completed if root.is_dir() else []
    return match.row(records, official, composed)
