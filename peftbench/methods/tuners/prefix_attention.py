"""Learned keys and values that stand before those of an attention layer, without a position of their own.

Source: Li and Liang, "Prefix-Tuning", arXiv 2101.00190, section 4.1, as He et al., arXiv 2110.04366, write it:
head = Attention(x W_q, [P_k; C W_k], [P_v; C W_v]). Where the library's models look their attention up by name
(`transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS`) that works on all of them; peft's prefixes go through the cache
instead, which moves positions and leaves an encoder-decoder two of its three kinds of attention.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from peftbench.methods.tuners.adapter import AdapterLayer, AdapterParameters, refuse_merge
from peftbench.models.transformers_compat import attention_name, name_attention

_PREFIXED = "prefixed_"


class PrefixLinear(AdapterLayer):
    """Wraps the queries' projection, which it leaves as it is, and holds the prefix of that attention layer.

    `hybrid_key`: P_k, `hybrid_value`: P_v, (heads of keys and values, length, width of a head), from N(0, 0.02^2).
    """

    hybrid_key: AdapterParameters
    hybrid_value: AdapterParameters
    adapter_layer_names: tuple[str, ...] = ("hybrid_key", "hybrid_value")

    def __init__(self, base_layer: nn.Module, heads: tuple[int, int]) -> None:
        super().__init__(base_layer)
        for name in self.adapter_layer_names:
            setattr(self, name, AdapterParameters())
        self.heads, self.width = heads

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds 2 * length * heads * width weights."""
        for part in (self.hybrid_key, self.hybrid_value):
            start = torch.empty(self.heads, config.prefix_length, self.width, device=self.weight.device)
            part[adapter_name] = nn.Parameter(nn.init.normal_(start, std=0.02))

    def prefix(self, part: str) -> list[torch.Tensor]:
        """P_k ("key") or P_v ("value") of each adapter in use, (n or 1, heads, length, width)."""
        return [getattr(self, f"hybrid_{part}")[name][None] for name in self.in_use() if name in self.hybrid_key]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in); result: (..., out)."""
        return self.base_layer(x)

    merge = refuse_merge


def heads(attention: nn.Module) -> tuple[int, int]:
    """The number of heads of an attention layer's keys, and the width of one."""
    config: Any = attention.config
    width = next(
        getattr(attention, name)
        for name in ("head_dim", "attention_head_size", "key_value_proj_dim")
        if hasattr(attention, name)
    )
    shared = getattr(config, "num_key_value_heads", None)  # Several heads of queries may share one of keys.
    return int(shared or getattr(attention, "num_heads", None) or config.num_attention_heads), int(width)


def check(name: str, attention: nn.Module) -> None:
    """Raises ValueError where an attention layer doesn't look up how it attends, or attends so that no prefix fits."""
    # transformers has no public way to ask it: a model's module imports the table if its layers attend by name.
    if not hasattr(sys.modules[type(attention).__module__], "ALL_ATTENTION_FUNCTIONS"):
        raise ValueError(f"{name}: {type(attention).__name__} attends in its own way and takes no prefix")
    implementation = str(attention_name(attention.config)).removeprefix(_PREFIXED)
    if implementation not in ("sdpa", "eager"):
        raise ValueError(f"attention by {implementation} takes no prefix; sdpa and eager do")


def install(model: nn.Module) -> None:
    """Makes a model's attention layers ask their parts for a prefix. Harmless where there is none."""
    for module in model.modules():
        config: Any = getattr(module, "config", None)
        # Parts of a model may have configurations of their own, so each module's is asked.
        plain = attention_name(config)
        if plain is None or plain.startswith(_PREFIXED):
            continue
        name = _PREFIXED + plain
        ALL_ATTENTION_FUNCTIONS.register(name, functools.partial(attend, plain))
        ALL_MASK_ATTENTION_FUNCTIONS.register(name, ALL_MASK_ATTENTION_FUNCTIONS[plain])
        name_attention(config, name)


def attend(
    plain: str,
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> Any:
    """The library's attention of this name over a longer row of keys and values.

    query: (n, heads, q, width); key, value: (n, heads, k, width); attention_mask: (n, 1, q, k), True or 0 where a query
    may look; `position_bias` (T5): (1, heads, q, k), 0 for a prefix.
    """
    source = sys.modules[type(module).__module__]
    function: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get(plain) or source.eager_attention_forward
    holders = [child for child in module.children() if isinstance(child, PrefixLinear)]
    keys, values = ([p for holder in holders for p in holder.prefix(part)] for part in ("key", "value"))
    length = sum(p.shape[2] for p in keys)
    if length:
        if attention_mask is None:
            attention_mask = _causal(module, kwargs.get("is_causal"), query.shape[2], key.shape[2], query.device)
        if attention_mask is not None:
            seen = True if attention_mask.dtype == torch.bool else 0.0
            attention_mask = F.pad(attention_mask, (length, 0), value=seen)
        if kwargs.get("position_bias") is not None:
            kwargs["position_bias"] = F.pad(kwargs["position_bias"], (length, 0))
        key, value = (
            torch.cat([*(p.to(x.dtype).expand(len(x), -1, -1, -1) for p in before), x], dim=2)
            for before, x in ((keys, key), (values, value))
        )
    return function(module, query, key, value, attention_mask, **kwargs)


def _causal(module: nn.Module, is_causal: bool | None, q: int, k: int, device: torch.device) -> torch.Tensor | None:
    """The mask that the library leaves out where it is causal and nothing else: the prefix needs it written down."""
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not causal or q == 1:
        return None
    return torch.ones(q, k, dtype=torch.bool, device=device).tril(k - q)[None, None]
