"""Quantised base models: packed frozen weights (bitsandbytes), for methods that are defined by them (QLoRA, int8
LoRA)."""

import importlib.util
import math
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from peftbench.config import targets
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.system import ranks


def settings(config: RunConfig) -> BitsAndBytesConfig | None:
    """The method's quantisation of its base, or None. The head isn't packed; 4-bit products use the run's precision.

    Raises:
        ConfigError: bitsandbytes isn't installed, or the arguments are wrong.
    """
    arguments = dict(config.method.quantization or {})
    if not arguments:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"method={config.method.name}: needs bitsandbytes, not installed here: pip install 'peftbench[quantised]'"
        )
    key = "method.quantization._target_"
    kind = targets.subclass(key, arguments.pop("_target_", None), BitsAndBytesConfig)
    if arguments.get("load_in_4bit"):
        arguments["bnb_4bit_compute_dtype"] = (
            torch.bfloat16 if config.hardware.precision.startswith("bf16") else torch.float32
        )
    allowed = {"load_in_4bit", "load_in_8bit", "llm_int8_threshold"} | {
        name for name in vars(kind()) if name.startswith("bnb_4bit")
    }
    for name in arguments:
        if name not in allowed:
            raise ConfigError(f"method.quantization.{name}: allowed are {', '.join(sorted(allowed))}")
    return kind(llm_int8_skip_modules=list(config.model.head), **arguments)


def outputs(model: Any) -> list[str]:
    """Names of a language model's output layer."""
    last = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if last is not None and module is last]


def keep_packing(model: nn.Module) -> nn.Module:
    """Keep 4-bit layers from repacking their weights in evaluation, after which training gets no gradient.

    bitsandbytes 0.50 does that on CPUs with AVX512-BF16, and says nothing.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return model


def from_weights(model: PreTrainedModel, load: Callable[[str], Any]) -> Any:
    """A packed copy of a model that starts at random, by way of a file: transformers packs weights only as it loads
    them."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)  # Of several ranks transformers lets the first write.
        loaded = load(ranks.told(folder))
        ranks.barrier()
        return loaded


def numel(parameter: nn.Parameter) -> int:
    """The number of weights of a parameter, not of bytes: a packed byte holds two 4-bit weights. `quant_state` is
    bitsandbytes' own."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()


def weights_bytes(model: nn.Module) -> int:
    """Bytes of all weights and buffers in memory, packed ones as they are, with their scales."""
    tensors = {id(t): t for t in [*model.parameters(), *model.buffers()]}
    packed = [getattr(t, "quant_state", None) for t in tensors.values()]
    return sum(t.nbytes for t in tensors.values()) + sum(_scales(state) for state in packed if state is not None)


def _scales(state: Any) -> int:
    """Bytes of a 4-bit weight's scales, which are themselves quantised under double quantisation."""
    nested = _scales(state.state2) if getattr(state, "nested", False) else 0
    return int(state.absmax.nbytes) + nested
