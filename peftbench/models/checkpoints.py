"""Where a model's files are. The command line asks before anything heavy is imported."""

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peftbench.config.hosted import HOSTED
from peftbench.config.types import ModelConfig, RunConfig
from peftbench.errors import ConfigError
from peftbench.results import finished
from peftbench.results.finished import FinishedRun
from peftbench.system import download, fingerprint
from peftbench.system.fetching import HubError

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_REST = ("*.json", "*.txt", "*.model")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


@dataclass(frozen=True)
class Checkpoint:
    """The source that a model is loaded from.

    Attributes:
        folder: with weights and tokenizer; None: the model is built at random from `model.config`.
        fingerprint: hash of the files, or the hub's name and commit.
        start: the finished run whose weights are put in place of the folder's.
    """

    folder: str | None
    fingerprint: str
    start: FinishedRun | None = None


def locate(config: ModelConfig, model_root: str | None, start_from: str | None = None) -> Checkpoint:
    """Locate a model: in the folder that it names, under `model_root` if that is set, else in its Python package, else
    on the hub or in its cache.

    Args:
        start_from: the path of the record of a finished run, whose weights the model starts from.

    Raises:
        ConfigError: there is no such model, its folder lacks weights, or the finished run doesn't fit.
    """
    checkpoint = _locate(config, model_root)
    return checkpoint if start_from is None else _starting(config, checkpoint, start_from)


_START = "start_from"


def _starting(config: ModelConfig, base: Checkpoint, path: str) -> Checkpoint:
    """A base with a finished run's weights in its place, and a fingerprint of both."""
    start = finished.find(_START, path)
    if start.record is None:
        raise ConfigError(f"{_START}={path}: allowed is a finished run's record (.json)")
    model = start.record.config["model"]["name"]
    if model != config.name:
        raise ConfigError(f"{_START}: the run is of model={model}; allowed is one of model={config.name}")
    finished.check_adapter(_START, start, base.folder, base.fingerprint)
    method = start.record.config["method"]
    if start.is_adapter and not method.get("mergeable"):
        raise ConfigError(
            f"{_START}: {method['name']} can't be folded into the weights; allowed is a method that can, or full"
        )
    return Checkpoint(base.folder, fingerprint.of_json([base.fingerprint, finished.contents(start)]), start)


def _locate(config: ModelConfig, model_root: str | None) -> Checkpoint:
    if config.family == HOSTED:  # What the server calls it is in the configuration.
        return Checkpoint(None, HOSTED)
    if config.config is not None:
        return Checkpoint(None, fingerprint.of_json(config.config))
    if config.checkpoint is None:
        raise ConfigError(f"model={config.name}: needs model.checkpoint or model.config")
    if config.folder is not None:
        return _local(Path(config.folder), "model.checkpoint")
    if model_root is not None:
        return _local(Path(model_root) / folder_name(config), f"model_root={model_root}")
    packaged = packaged_at(config.package)
    if packaged is not None:
        return _local(packaged, f"model.package={config.package}")
    return _from_hub(config)


def named(key: str, name: str, model_root: str | None) -> Checkpoint:
    """The checkpoint that a key names: a folder, or a name on the hub. Raises ConfigError as `locate`."""
    if Path(name).is_dir():
        return _local(Path(name), f"{key}={name}")
    try:
        return locate(ModelConfig(name=name, family="encoder", head=[], sites={}, checkpoint=name), model_root)
    except ConfigError as error:
        raise ConfigError(f"{key}={name}: {error}") from None


def folder_name(config: ModelConfig) -> str:
    """The name of a model's folder under `model_root`."""
    return str(config.checkpoint).split("/")[-1]


def packaged_at(package: str | None) -> Path | None:
    """The path of a folder or file inside an installed package, without importing it, which costs seconds; None if the
    package isn't installed."""
    if package is None:
        return None
    name, _, inside = package.partition("/")
    if not name.isidentifier():
        raise ConfigError(
            f"model.package={package}: allowed is an installed package and a folder in it: package/folder"
        )
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / inside


def _local(folder: Path, key: str) -> Checkpoint:
    """A folder's checkpoint. Raises ConfigError, which names the key, if it lacks a file."""
    if not folder.is_dir():
        raise ConfigError(f"{key}: there is no folder {folder}")
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{key}: {folder} has no config.json")
    weights = [file for pattern in _WEIGHTS for file in folder.glob(pattern) if file.stat().st_size > 0]
    if not weights:
        raise ConfigError(f"{key}: {folder} has no weights (looked for {', '.join(_WEIGHTS)})")
    if not any(file for pattern in _TOKENIZERS for file in folder.glob(pattern)):
        # transformers would go on with a tokenizer that knows no word.
        raise ConfigError(f"{key}: {folder} has no tokenizer (looked for {', '.join(_TOKENIZERS)})")
    rest = [file for pattern in _REST for file in folder.glob(pattern)]
    return Checkpoint(str(folder.resolve()), fingerprint.of_files([*weights, *rest]))


def _from_hub(config: ModelConfig) -> Checkpoint:
    """The hub's files in the local cache, downloaded if need be. Pickled weights only where there are no others."""

    def select(paths: Sequence[str]) -> list[str]:
        weights = next((files for pattern in _WEIGHTS if (files := download.matching(paths, [pattern]))), [])
        if not weights:
            raise HubError(f"it has no weights (looked for {', '.join(_WEIGHTS)})")
        if not download.matching(paths, _TOKENIZERS):
            raise HubError(f"it has no tokenizer (looked for {', '.join(_TOKENIZERS)})")
        code = ["*.py"] if config.trust_remote_code else []
        return sorted({*weights, *download.matching(paths, [*_REST, *code])})

    try:
        snapshot = download.fetch(str(config.checkpoint), select, kind="model", revision=config.revision)
        return Checkpoint(str(snapshot.folder), f"{config.checkpoint}@{snapshot.commit}")
    except HubError as error:
        keys = {"path": f" model.checkpoint={config.checkpoint}", "revision": f" model.revision={config.revision}"}
        about = keys.get(error.about or "", "")
        conversion = f"make one by `peftbench convert model={config.name} model_root=DIR`, or " if config.gguf else ""
        raise ConfigError(
            f"model={config.name}{about}: can't get {config.checkpoint}: {error}; or point model_root= at a folder "
            f"that holds {folder_name(config)}/, or {conversion}use model=minilm with the `demo` extra installed"
        ) from None


#: The names of the number of layers in the config.json of different architectures.
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


def bertscore_model(config: RunConfig) -> Checkpoint | None:
    """The model that BERTScore compares texts with, located before training; None if the configuration names none.

    Raises:
        ConfigError: there is no such model, it has no such layer, or the task has no texts to compare.
    """
    name, layer = config.bertscore_model, config.bertscore_layer
    if name is None:
        if layer is not None:
            raise ConfigError("bertscore_layer: needs bertscore_model, whose layer it is")
        return None
    if config.dataset.task != "generation":
        raise ConfigError(f"bertscore_model={name}: compares texts; dataset={config.dataset.name} has labels")
    checkpoint = named("bertscore_model", name, config.model_root)
    described = json.loads(Path(str(checkpoint.folder), "config.json").read_text(encoding="utf-8"))
    layers = next((described[key] for key in _LAYERS if key in described), None)
    if layer is not None and layers is not None and layer > layers:
        raise ConfigError(f"bertscore_layer={layer}: {name} has {layers}")
    return checkpoint
