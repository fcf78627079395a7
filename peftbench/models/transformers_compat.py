"""What this project uses of transformers beside its documented interface.

tests/models/test_transformers_compat.py fails where a later transformers has changed it.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import create_position_bias_mask, repeat_kv, sdpa_attention_forward

__all__ = [
    "WRITTEN_FOR",
    "attention_name",
    "create_position_bias_mask",
    "name_attention",
    "repeat_kv",
    "replace_sdpa",
    "sdpa_attention_forward",
]

#: The transformers that this file was written against.
WRITTEN_FOR = "5.23.0"


def attention_name(config: Any) -> str | None:
    """The name by which the layers of a configuration look their attention up at every call; None: it has none."""
    name: str | None = getattr(config, "_attn_implementation", None)
    return name


def name_attention(config: Any, name: str) -> None:
    """Have a configuration's layers look their attention up by another name from now on."""
    config._attn_implementation = name


def replace_sdpa(attention: Callable[..., tuple[torch.Tensor, Any]]) -> None:
    """Compute "sdpa" attention by another function, in every model of this process.

    A name of our own would be cleaner, but transformers makes each mask as the attention's name says, and a saved
    model's config.json would name what nobody else has.
    """
    AttentionInterface.register("sdpa", attention)
