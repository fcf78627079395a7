"""The architecture of a model without its files, and what a data set's file leaves to the data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from peftbench.config.types import ModelConfig, RunConfig
from peftbench.data import own_files
from peftbench.errors import ConfigError, brief
from peftbench.models.checkpoints import packaged_at


def shaped(model: ModelConfig) -> ModelConfig:
    """The model as one that is built from its architecture: its `config`, its `shape`, or else what a local folder's
    config.json says. Raises ConfigError if none is there."""
    if model.config is not None:
        return model
    shape = dict(model.shape or _of_folder(model) or {})
    if not shape:
        raise ConfigError(
            f"model={model.name}: can't be estimated without its architecture: model.shape, as its config.json has it"
        )
    if shape.get("pad_token_id") is None:
        # As `backbones.model_config` does: a decoder's head looks for the last token that isn't padding.
        end = shape.get("eos_token_id")
        shape["pad_token_id"] = (end[0] if isinstance(end, list) else end) or 0
    return replace(model, checkpoint=None, config=shape)


def _of_folder(model: ModelConfig) -> dict[str, Any] | None:
    folders = [packaged_at(model.package), Path(model.checkpoint) if model.checkpoint else None]
    for folder in folders:
        if folder is not None and (folder / "config.json").is_file():
            try:
                config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
            except Exception as error:  # A file from elsewhere may be wrong in any way.
                raise ConfigError(f"model={model.name}: can't read its config.json ({brief(error)})") from None
            return config.to_diff_dict() | {"model_type": config.model_type}
    return None


def labelled(config: RunConfig) -> RunConfig:
    """The run with two labels and the task type's metrics where the data would tell them."""
    data = own_files.with_metrics(config.dataset)
    if data.task != "regression" and data.labels is None and not data.parts:
        data = replace(data, labels=["0", "1"])
    return replace(config, dataset=data)
