"""A saved adapter changed into a simpler one that answers the same: what training needed is left out."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from safetensors.torch import load_file, save_file


def rewrite(
    folder: Path, *, drop: str, add: dict[str, torch.Tensor], kind: type[PeftConfig], config: dict[str, Any]
) -> None:
    """Replaces the tensors with `drop` in their names by those of `add`, and the configuration by one of the class
    `kind` with these values changed."""
    weights, file = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    others = {name: tensor for name, tensor in load_file(weights).items() if drop not in name}
    save_file({**others, **{name: tensor.contiguous() for name, tensor in add.items()}}, weights)
    fields = {f.name for f in dataclasses.fields(kind)}
    values = {k: v for k, v in json.loads(file.read_text()).items() if k in fields}
    file.write_text(json.dumps({**values, **config}, indent=2, sort_keys=True))
