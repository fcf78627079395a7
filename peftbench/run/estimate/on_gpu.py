"""A run on a GPU, estimated where there is none: on the CPU's fake tensors, with the kernels that CUDA would choose."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from peftbench.config.types import RunConfig
from peftbench.models import dropout
from peftbench.models.transformers_compat import replace_sdpa, sdpa_attention_forward


def device(config: RunConfig) -> str:
    """The device of the fake tensors: a GPU's need a torch that is built with CUDA."""
    wanted = config.hardware.accelerator == "gpu" or (
        config.hardware.accelerator == "auto" and torch.cuda.is_available()
    )
    return "cuda:0" if wanted and torch.version.cuda is not None and torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def kernels(config: RunConfig) -> Iterator[None]:
    """Puts in place, while entered, what a run on a GPU meets: CUDA's attention, which writes no scores out, and its
    dropout, which keeps a mask of one byte an element, though its tensors are the CPU's."""
    if config.hardware.accelerator != "gpu" or device(config) != "cpu":
        yield
        return
    before = dropout.dropout
    dropout.dropout = _dropout
    replace_sdpa(_attention)
    try:
        yield
    finally:
        dropout.dropout = before
        dropout.install_attention()


def _dropout(x: torch.Tensor, p: float) -> torch.Tensor:
    return torch.native_dropout(x, p, True)[0] if p else F.dropout(x, p)


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: Any,
    dropout: float = 0.0,
    **named: Any,
) -> Any:
    return sdpa_attention_forward(module, query, key, value, mask, 0.0, **named)
