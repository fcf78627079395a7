"""Prefix tuning in every attention layer: before the encoder's self-attention, the decoder's and the cross-attention.

Source: Li and Liang, "Prefix-Tuning: Optimizing Continuous Prompts for Generation", arXiv 2101.00190, sections 4.2 and
4.3, and its code (XiangLi1999/PrefixTuning), which has an embedding and an MLP of its own for each kind of attention.
What differs: the learned keys and values have no position (`tuners.prefix_attention`); in the paper, as in peft, they
stand in the cache and move the text's positions on.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from peftbench.methods.bottleneck import output_width
from peftbench.methods.hub import Hub
from peftbench.methods.tuners import prefix_attention
from peftbench.methods.tuners.adapter import AdapterLayer, AdapterParameters, AdapterTuner, refuse_merge, register
from peftbench.methods.tuners.prefix_attention import PrefixLinear


@dataclass
class PrefixFullConfig(PeftConfig):
    """`prefix_length`: learned keys and values of each attention layer. `projection_size`: the hidden width of the MLP
    that makes them while they are trained; None: they are trained as they are, which is how they are saved.
    `target_modules`: the projections of the queries. `modules_to_save`: trained whole, i.e. the task head.
    Raises ValueError for sizes below 1."""

    prefix_length: int = 20
    projection_size: int | None = 512
    target_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "PREFIX_FULL"
        for name in ("prefix_length", "projection_size"):
            size = getattr(self, name)
            if (type(size) is not int or size < 1) and (name, size) != ("projection_size", None):
                raise ValueError(f"{name} must be an integer above 0, not {size!r}")


class MadePrefixLinear(PrefixLinear):
    """The prefix of an attention layer, made by an MLP that all layers of its kind share but for its last matrix:

    P_k = W_k tanh(W E + b) + b_k, P_v likewise; E (`hybrid_embedding`): (length, d), W (`hybrid_inner`): (hidden, d),
    W_k, W_v (`hybrid_outer_key`, `_value`): (heads * width, hidden). `hybrid_key`, `hybrid_value`: once it is kept.
    """

    hybrid_inner: nn.ModuleDict
    hybrid_outer_key: nn.ModuleDict
    hybrid_outer_value: nn.ModuleDict
    hybrid_embedding: AdapterParameters
    _network = ("hybrid_inner", "hybrid_outer_key", "hybrid_outer_value", "hybrid_embedding")
    adapter_layer_names = (*_network, "hybrid_key", "hybrid_value")

    def __init__(self, base_layer: nn.Module, heads: tuple[int, int], first: "MadePrefixLinear | None") -> None:
        """first: the layer that has E and W, of another attention layer of the same kind; None: this one has them."""
        super().__init__(base_layer, heads)
        for name in self._network[:-1]:
            setattr(self, name, nn.ModuleDict())
        self._shared = () if first is None else (first,)  # In a tuple it isn't a part of this module.

    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds length * d + hidden (d + 1) weights to the first of a kind, 2 (hidden + 1) heads * width to each."""
        if config.projection_size is None:
            super().update_layer(adapter_name, config)
            return
        device, out = self.weight.device, self.heads * self.width
        for name in ("hybrid_outer_key", "hybrid_outer_value"):
            getattr(self, name)[adapter_name] = nn.Linear(config.projection_size, out, device=device)
        if not self._shared:
            d = self.weight.shape[0 if output_width(self) == self.weight.shape[1] else 1]
            self.hybrid_inner[adapter_name] = nn.Linear(d, config.projection_size, device=device)
            # As nn.Embedding starts, in the paper's code and in peft's.
            start = torch.randn(config.prefix_length, d, device=device)
            self.hybrid_embedding[adapter_name] = nn.Parameter(start)

    def in_use(self) -> list[str]:
        if self.disable_adapters:
            return []
        return [name for name in self.active_adapters if name in self.hybrid_outer_key or name in self.hybrid_key]

    def prefix(self, part: str) -> list[torch.Tensor]:
        return [self.of_adapter(name, part)[None] for name in self.in_use()]

    def of_adapter(self, name: str, part: str) -> torch.Tensor:
        """P_k ("key") or P_v ("value") of an adapter, (heads, length, width)."""
        if name in self.hybrid_key:
            return getattr(self, f"hybrid_{part}")[name]
        (first,) = self._shared or (self,)
        hidden = torch.tanh(first.hybrid_inner[name](first.hybrid_embedding[name]))
        rows: torch.Tensor = getattr(self, f"hybrid_outer_{part}")[name](hidden)
        return rows.view(len(rows), self.heads, self.width).transpose(0, 1)

    def keep(self, made: dict[str, dict[str, torch.Tensor]]) -> list[tuple[Any, str, Any]]:
        """Puts made prefixes, by adapter and part, in the place of the network. Returns what was removed."""
        removed = []
        for name, parts in made.items():
            for holder in (getattr(self, part) for part in self._network):
                if name in holder:
                    removed.append((holder, name, holder[name]))
                    del holder[name]
            for part, tensor in parts.items():
                getattr(self, f"hybrid_{part}")[name] = nn.Parameter(tensor, requires_grad=False)
        return removed


class PrefixFullTuner(AdapterTuner):
    """Refuses attention that takes no prefix (DeBERTa)."""

    method = "prefix_full"
    prefix = "hybrid_"
    tuner_layer_cls = AdapterLayer
    _check_merge_allowed = refuse_merge

    def check_target(self, name: str, module: nn.Module) -> None:
        if output_width(module) is None:
            raise ValueError(f"{self.method}: {name} is a {type(module).__name__}, not a Linear or Conv1D")

    def _attention_of(self, name: str) -> nn.Module:
        return self.model.get_submodule(name.rpartition(".")[0])

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        super()._prepare_model(peft_config, model)
        for name, _ in model.named_modules():
            if self._check_target_module_exists(peft_config, name):
                prefix_attention.check(name, self._attention_of(name))
        prefix_attention.install(model)

    def wrap(self, name: str, module: nn.Module, config: PrefixFullConfig) -> AdapterLayer:
        # Layers of a kind have the same name but for their numbers: decoder.layers.3.encoder_attn.q_proj.
        alike = (
            other
            for other_name, other in self.model.named_modules()
            if isinstance(other, MadePrefixLinear) and _kind(other_name) == _kind(name)
        )
        return MadePrefixLinear(module, prefix_attention.heads(self._attention_of(name)), next(alike, None))


def _kind(name: str) -> str:
    return re.sub(r"\d+", "#", name)


class PrefixFull(Hub):
    """Saves keys and values and drops what made them, as the paper does (section 4.3)."""

    def deployed(self, model: nn.Module) -> AbstractContextManager[None]:
        return _kept(model)

    def save(self, model: nn.Module, folder: Path) -> None:
        with self.deployed(model):
            super().save(model, folder)


@contextmanager
def _kept(model: Any) -> Iterator[None]:
    """Turns keys and values, while entered, into tensors, and the configuration says so: loaded, they need no MLP."""
    config = model.active_peft_config
    layers = [module for module in model.modules() if isinstance(module, MadePrefixLinear)]
    with torch.no_grad():  # All are made before the first is put in its place: they share.
        made = [
            {
                name: {part: layer.of_adapter(name, part).contiguous() for part in ("key", "value")}
                for name in layer.hybrid_outer_key
            }
            for layer in layers
        ]
    removed = [entry for layer, its in zip(layers, made, strict=True) for entry in layer.keep(its)]
    size, config.projection_size = config.projection_size, None
    try:
        yield
    finally:
        config.projection_size = size
        for layer, its in zip(layers, made, strict=True):
            for name in its:
                del layer.hybrid_key[name], layer.hybrid_value[name]
        for holder, name, part in removed:
            holder[name] = part


register("PREFIX_FULL", config_class=PrefixFullConfig, tuner_class=PrefixFullTuner, prefix="hybrid_")
