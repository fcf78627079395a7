"""What a run reads beside model and data: finished runs and checkpoints. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from peftbench import fingerprint
from peftbench.errors import ConfigError
from peftbench.reading import doubt, read
from peftbench.records import RunRecord, key_of
from peftbench.store import ResultStore

_SIGNS = ("config.json", "adapter_config.json")


@dataclass(frozen=True)
class Trained:
    """A folder of weights; `record` of the run that left them, None for a checkpoint or an adapter from elsewhere."""

    weights: Path
    record: RunRecord | None

    @property
    def is_adapter(self) -> bool:
        """Whether they are of use on their base only."""
        return (self.weights / "adapter_config.json").is_file()


def find(key: str, path: str) -> Trained:
    """What a path leads to: a completed run's record whose weights were kept, or a checkpoint's or adapter's folder.

    Args:
        key: the configuration key that names it, for messages.

    Raises:
        ConfigError: it is neither.
    """
    where = Path(path)
    if where.is_dir() and any((where / name).is_file() for name in _SIGNS):
        return Trained(where, None)
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
    return Trained(weights, record)


def fingerprints(inputs: Mapping[str, str | None]) -> dict[str, str]:
    """A hash of every input that is given, by name; errors as `find`."""
    found = {name: find(f"method.inputs.{name}", path) for name, path in inputs.items() if path is not None}
    return {name: contents(trained) for name, trained in found.items()}


def check_adapter(key: str, found: Trained, folder: str | None, here: str) -> None:
    """Raises ConfigError if a run left an adapter, and its base isn't the one here.

    Args:
        folder, here: of the base, its folder and its fingerprint (`checkpoints.Checkpoint`).
    """
    if not found.is_adapter:
        return
    assert found.record is not None
    name, then = found.record.config["model"]["name"], found.record.environment.get("model_fingerprint")
    if folder is None:
        raise ConfigError(f"{key}: {name} starts at random, so that an adapter alone is of no use")
    if then != here:
        raise ConfigError(f"{key}: it was trained on another {name} ({then}, here {here})")


def contents(trained: Trained) -> str:
    """A hash of the weights and of the run that left them."""
    files = fingerprint.of_files(file for file in trained.weights.iterdir() if file.is_file())
    return files if trained.record is None else fingerprint.of_json([trained.record.key, files])
