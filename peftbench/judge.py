"""The model that BERTScore compares texts with, found before training. Free of torch."""

import json
from pathlib import Path

from peftbench import checkpoints
from peftbench.checkpoints import Checkpoint
from peftbench.errors import ConfigError
from peftbench.schema import RunConfig

#: What architectures call the number of their layers.
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


def locate(config: RunConfig) -> Checkpoint | None:
    """Where it is; None where none is given.

    Raises:
        ConfigError: it isn't there, has no such layer, or there are no texts to compare.
    """
    name, layer = config.bertscore_model, config.bertscore_layer
    if name is None:
        if layer is not None:
            raise ConfigError("bertscore_layer: needs bertscore_model, whose layer it is")
        return None
    if config.dataset.task != "generation":
        raise ConfigError(f"bertscore_model={name}: compares texts; dataset={config.dataset.name} has labels")
    found = checkpoints.named("bertscore_model", name, config.model_root)
    described = json.loads(Path(str(found.folder), "config.json").read_text(encoding="utf-8"))
    layers = next((described[key] for key in _LAYERS if key in described), None)
    if layer is not None and layers is not None and layer > layers:
        raise ConfigError(f"bertscore_layer={layer}: {name} has {layers}")
    return found
