"""Finished bottleneck adapters, frozen and kept inside another adapter: what stacking and fusion build on."""

import json
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from transformers.activations import ACT2FN

from peftbench.errors import ConfigError
from peftbench.methods.tuners.adapter import AdapterLayer
from peftbench.methods.tuners.peft_compat import BufferDict
from peftbench.results import finished

_PARTS = ("down", "down_bias", "up", "up_bias")
_LEAD = "base_model.model."


@dataclass(frozen=True)
class Saved:
    """A bottleneck adapter as it was saved: its configuration and, by module, its tensors (`down`: (r, d), `down_bias`:
    (r,), `up`: (d, r), `up_bias`: (d,), the scaling in the last two)."""

    config: dict[str, Any]
    modules: dict[str, dict[str, torch.Tensor]]


def read(key: str, path: str) -> Saved:
    """The adapter at a path: a finished run's record or an adapter's folder.

    Args:
        key: the configuration key that names it, for messages.

    Raises:
        ConfigError: no bottleneck adapter is there.
    """
    folder = finished.find(key, path).weights
    file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    config: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"peft_type": "checkpoint, no"}
    if config["peft_type"] != "BOTTLENECK" or not weights.is_file():
        raise ConfigError(f"{key}={path}: a {config['peft_type']} adapter; allowed are houlsby's and pfeiffer's")
    modules: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(weights).items():
        module, _, part = name.removeprefix(_LEAD).rpartition(".bottleneck_")
        if module:
            side, _, kind = part.partition(".")
            scaled = tensor * config["scaling"] if side == "up" else tensor
            modules.setdefault(module, {})[side if kind == "weight" else f"{side}_bias"] = scaled
    if any(set(parts) != set(_PARTS) for parts in modules.values()):
        raise ConfigError(f"{key}={path}: an activation with weights of its own can't be used")
    return Saved(config, modules)


class BankLayer(AdapterLayer):
    """Holds n frozen bottlenecks an adapter, as buffers: saved with it, never trained.

    `<bank>down`: (n, r, d), `<bank>down_bias`: (n, r), `<bank>up`: (n, d, r), `<bank>up_bias`: (n, d); where they
    differ in r, the smaller are filled up with zeros, which changes nothing.
    """

    bank: str

    def make_banks(self) -> None:
        """Empty dicts, once for the layer."""
        for part in _PARTS:
            setattr(self, self.bank + part, BufferDict({}, persistent=True))
        self.bank_act: dict[str, Any] = {}

    def add_bank(self, adapter_name: str, shape: tuple[int, int, int], non_linearity: str) -> None:
        """Room for n bottlenecks of size r and width d; shape: (n, r, d)."""
        (n, r, d), device = shape, self.weight.device
        for part, size in zip(_PARTS, ((n, r, d), (n, r), (n, d, r), (n, d)), strict=True):
            getattr(self, self.bank + part)[adapter_name] = torch.zeros(size, device=device)
        self.bank_act[adapter_name] = ACT2FN[non_linearity]

    def fill(self, adapter_name: str, place: int, tensors: dict[str, torch.Tensor]) -> None:
        """Copies a saved bottleneck into its place."""
        for part, tensor in tensors.items():
            room = getattr(self, self.bank + part)[adapter_name][place]
            room[tuple(slice(0, size) for size in tensor.shape)].copy_(tensor)

    def count(self, adapter_name: str) -> int:
        """n."""
        return len(getattr(self, self.bank + "down")[adapter_name])

    def frozen(self, adapter_name: str, place: int, h: torch.Tensor) -> torch.Tensor:
        """W_up f(W_down h + b_down) + b_up of one of them; h, result: (..., d)."""
        down, down_bias, up, up_bias = (getattr(self, self.bank + part)[adapter_name][place] for part in _PARTS)
        h = h.to(down.dtype)
        return self.bank_act[adapter_name](h @ down.T + down_bias) @ up.T + up_bias
