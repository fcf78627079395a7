"""Bases packed in 4 or 8 bits (bitsandbytes), without weights: its own layers, holding what they hold once packed."""

from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from peftbench.models import quantization
from peftbench.run.estimate.fakes import Faking

#: Weights of a block that have a scale in common, by bitsandbytes' default; and scales of a block, where these are
#: packed too.
_BLOCK, _NESTED_BLOCK = 64, 256


def replace_layers(model: Any, settings: BitsAndBytesConfig) -> nn.Module:
    """A model on the meta device with bitsandbytes' layers in the place of its linear ones, as transformers does."""
    from transformers.integrations.bitsandbytes import replace_with_bnb_linear

    skipped = [*(settings.llm_int8_skip_modules or []), *quantization.outputs(model)]
    model = replace_with_bnb_linear(model, skipped, settings)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = settings.load_in_4bit, settings.load_in_8bit
    return quantization.keep_packing(model)


def fill(model: nn.Module, faking: Faking) -> None:
    """Give bitsandbytes' layers of a model the fake tensors that packing would give them. Call it before `fakes.fake`.

    Outliers, which 8-bit layers compute in 16 bits, depend on data: there are none.
    """
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.weight = _in_4_bits(module, faking)
        elif isinstance(module, Linear8bitLt):
            state: Any = module.state
            state.threshold, state.CB = 0.0, _made(faking, module.weight.shape, torch.int8)
            state.SCB = _made(faking, module.weight.shape[:1], torch.float32)
            module.weight = _parameter(state.CB, CB=None, SCB=None)


def _in_4_bits(module: Any, faking: Faking) -> nn.Parameter:
    from bitsandbytes.functional import QuantState

    weight = module.weight
    count = weight.numel()
    blocks = -(-count // _BLOCK)
    made: dict[str, Any] = {"absmax": _made(faking, (blocks,), torch.float32)}
    if weight.compress_statistics:
        scales = QuantState(
            absmax=_made(faking, (-(-blocks // _NESTED_BLOCK),), torch.float32),
            code=_made(faking, (256,), torch.float32),
            blocksize=_NESTED_BLOCK,
            dtype=torch.float32,
        )
        offset = _made(faking, (), torch.float32)
        made = {"absmax": _made(faking, (blocks,), torch.uint8), "offset": offset, "state2": scales}
    state = QuantState(
        shape=weight.shape,
        code=_made(faking, (16,), torch.float32),
        blocksize=_BLOCK,
        quant_type=weight.quant_type,
        dtype=torch.float32,
        **made,
    )
    return _parameter(_made(faking, (-(-count // 2), 1), torch.uint8), quant_state=state, bnb_quantized=True)


def _made(faking: Faking, shape: Any, kind: torch.dtype) -> torch.Tensor:
    return faking.of(torch.empty(shape, dtype=kind, device="meta"))


def _parameter(data: torch.Tensor, **attributes: Any) -> nn.Parameter:
    parameter = nn.Parameter(data, requires_grad=False)
    for name, value in attributes.items():
        setattr(parameter, name, value)
    return parameter
