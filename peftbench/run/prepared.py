"""`PreparedRun`: a run whose inputs are located and whose key is known. The command line makes it, and hands it to the
process that trains."""

from dataclasses import dataclass, field, replace

from peftbench.config import hydra_guard
from peftbench.config.dataset_types import AS_METRIC, DatasetConfig
from peftbench.config.types import RunConfig
from peftbench.data import forgetting, located, slicing, sources
from peftbench.data.forgetting import Questions
from peftbench.data.forgetting import locate as locate_benchmarks
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError, NotApplicable
from peftbench.models import checkpoints
from peftbench.models.checkpoints import Checkpoint, bertscore_model
from peftbench.results import finished
from peftbench.results.key import run_key
from peftbench.results.store import ResultStore


@dataclass(frozen=True)
class PreparedRun:
    """A run whose inputs are located: what is needed to name it and to start it.

    Attributes:
        key: its name in results_dir: a hash of the configuration and of the inputs' fingerprints.
        source: the files of its data set; `checkpoint`: of its model.
        questions: by benchmark, the questions that are asked before and after training.
        bertscore_model: the model that compares texts; None: no BERTScore.
    """

    config: RunConfig
    key: str
    source: DataSource
    checkpoint: Checkpoint
    questions: dict[str, Questions] = field(default_factory=dict)
    bertscore_model: Checkpoint | None = None


def prepare(config: RunConfig) -> PreparedRun:
    """Locate the data and the model of a run, and compute its key.

    Raises:
        ConfigError: an input is missing or isn't right.
        NotApplicable: the method needs a split that the data doesn't have.
    """
    _check_names(config, config.dataset)
    _check_start(config)
    cache = ResultStore(config.results_dir).cache
    reads_train = config.method.reads_train is not False
    try:
        data, source = located.prepare(config.dataset, data_root=config.data_root, cache=cache, train=reads_train)
    except NotApplicable as error:
        raise NotApplicable(f"method={config.method.name} on dataset={config.dataset.name}: {error}") from None
    config = replace(config, dataset=_directed(data))
    if reads_train:
        _check_rows(config, config.dataset, source)
    slicing.check(config, source)
    _check_names(config, config.dataset)  # A file's name may have become the data set's.
    checkpoint = checkpoints.locate(config.model, config.model_root, config.start_from)
    questions, judge = locate_benchmarks(config), bertscore_model(config)
    inputs = {**finished.fingerprints(config.method.inputs), **forgetting.fingerprints(questions)}
    inputs |= own_metrics(config.dataset)
    if judge is not None:
        inputs["bertscore_model"] = judge.fingerprint
    key = run_key(config, data=source.fingerprint, model=checkpoint.fingerprint, inputs=inputs)
    return PreparedRun(config, key, source, checkpoint, questions, judge)


def _check_start(config: RunConfig) -> None:
    """Raises ConfigError if an experiment starts this data set from a run of its own, and no record of it is given."""
    if config.start is not None and config.start_from is None:
        words = f"experiment={config.experiment} dataset={config.dataset.name}"
        before = " ".join(f"{key}={value}" for key, value in config.start.items())
        raise ConfigError(
            f"start_from: {words} goes on from the run of {before}; `python -m peftbench reproduce {words}` makes "
            "both, start_from=<its record> names one, start_from=null starts at the checkpoint"
        )


def _check_names(config: RunConfig, data: DatasetConfig) -> None:
    """Raises ConfigError for a name that is too long for the folders that are called by it."""
    from_key = "dataset.parts" if data.parts else "dataset.title" if data.title and data.format else "dataset"
    hydra_guard.check_names({from_key: data.name, "model": config.model.name, "method": config.method.name})


def _check_rows(config: RunConfig, data: DatasetConfig, source: DataSource) -> None:
    """Raises ConfigError if the split that selection carves from the training split would leave no row to train on."""
    for part in data.parts or []:
        _check_rows(config, part, source.parts[part.name])
    carves = config.recipe.selection == "best_on_selection" and config.recipe.shots is None
    if carves and not data.parts and sources.count(source, data.train) < 2:
        raise ConfigError(
            f"dataset={data.name}: {data.train} has one row, and recipe.selection=best_on_selection takes it to select "
            "on; recipe.selection=last needs none"
        )


def own_metrics(data: DatasetConfig) -> dict[str, str]:
    """The fingerprints of the user's own metrics, of a mixture's parts too."""
    from peftbench.tasks.metrics import own, registry

    named = {name: key for part in _with_parts(data) for name, key in registry.keys(part).items()}
    return own.fingerprints(named)


def _with_parts(data: DatasetConfig) -> list[DatasetConfig]:
    return [data, *(data.parts or []), *(data.held_out or [])]


def _directed(data: DatasetConfig) -> DatasetConfig:
    """The data set, its parts included, with "max" or "min" for every metric that the user only named."""
    parts = None if data.parts is None else [_directed(part) for part in data.parts]
    held_out = None if data.held_out is None else [_directed(part) for part in data.held_out]
    data = replace(data, parts=parts, held_out=held_out)
    if AS_METRIC not in data.metrics.values():
        return data
    from peftbench.tasks.metrics import registry  # Over a second of scikit-learn, which only a named metric needs here.

    return replace(data, metrics=registry.directed(data.metrics))
