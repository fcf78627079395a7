"""Finds the finished runs, checkpoints and adapters that a run reads beside its model and data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peftbench.errors import ConfigError
from peftbench.results.reading import doubt, key_of, read
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.system import fingerprint

_SIGNS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class FinishedRun:
    """A folder of weights, and the record of the run that left them; None for a checkpoint or adapter from
    elsewhere."""

    weights: Path
    record: RunRecord | None

    @property
    def is_adapter(self) -> bool:
        """True if the weights are an adapter, which needs its base model."""
        return (self.weights / "adapter_config.json").is_file()


def find(key: str, path: str) -> FinishedRun:
    """The weights that a path leads to: of a completed run, by its record, or of a checkpoint's or adapter's folder.

    Args:
        key: the configuration key that holds the path, for messages.

    Raises:
        ConfigError: the path is neither, or the run's weights weren't kept.
    """
    where = Path(path)
    if where.is_dir() and any((where / name).is_file() for name in _SIGNS):
        return FinishedRun(where, None)
    if where.is_dir() or where.suffix != ".json":
        signs = " or ".join(_SIGNS)
        raise ConfigError(f"{key}={path}: allowed are a finished run's record (.json) and a folder with {signs}")
    record = read(where)
    if not isinstance(record, RunRecord) or record.status != "completed":
        raise ConfigError(f"{key}={path}: {record if not isinstance(record, RunRecord) else 'the run has failed'}")
    if (why := doubt(where, record, key_of(record))) is not None:
        raise ConfigError(f"{key}={path}: {why}")
    weights = ResultStore.weights_of(where)
    if weights is None or not weights.is_dir():
        lost = "aren't beside it" if weights is None else "weren't kept (save_adapters=true keeps them)"
        raise ConfigError(f"{key}={path}: the run's weights {lost}")
    return FinishedRun(weights, record)


def fingerprints(inputs: Mapping[str, str | None]) -> dict[str, str]:
    """A hash of every input that is given, by name; errors as `find`."""
    paths = {name: path for name, path in inputs.items() if path is not None}
    return {name: contents(find(f"method.inputs.{name}", path)) for name, path in paths.items()}


def check_adapter(key: str, finished: FinishedRun, folder: str | None, here: str) -> None:
    """Raises ConfigError if a run left an adapter, and its base isn't the one here.

    Args:
        folder, here: the base's folder (None: random weights) and its fingerprint (`checkpoints.Checkpoint`).
    """
    if not finished.is_adapter:
        return
    assert finished.record is not None
    name, then = finished.record.config["model"]["name"], finished.record.environment.get("model_fingerprint")
    if folder is None:
        raise ConfigError(f"{key}: {name} starts at random, so that an adapter alone is of no use")
    if then != here:
        raise ConfigError(f"{key}: it was trained on another {name} ({then}, here {here})")


def contents(finished: FinishedRun) -> str:
    """A hash of the weights and of the run that left them; not of the model card, which says how long it took."""
    files = fingerprint.of_files(f for f in finished.weights.iterdir() if f.is_file() and f.suffix != ".md")
    return files if finished.record is None else fingerprint.of_json([finished.record.key, files])
