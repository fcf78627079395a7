"""Where a model's layers are, and a model with fewer of them: for methods that treat layers unlike.

A stack is an outermost `ModuleList`: the layers of an encoder or a decoder, one of each in an encoder-decoder, in the
order in which they are run.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftbench.errors import NotApplicable

#: What configurations call the number of a stack's layers, by the side of an encoder-decoder that it is on.
_ENCODER, _DECODER = ("encoder_layers", "num_layers"), ("decoder_layers", "num_decoder_layers")


@dataclass(frozen=True)
class Parts:
    """A model's trained parameters by where they stand: `embeddings` below, `layers` from the first that is run to the
    last, `top` above (norms, pooler, head)."""

    embeddings: list[nn.Parameter]
    layers: list[list[nn.Parameter]]
    top: list[nn.Parameter]


def stacks(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Every stack by its dotted name."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def parts(model: nn.Module) -> Parts:
    """The parts of a model, each trained parameter in one of them (tied ones in the first that has them).

    Raises:
        NotApplicable: it has no layers.
    """
    layers = [layer for stack in stacks(model).values() for layer in stack]
    if not layers:
        raise NotApplicable(f"{type(model).__name__} has no stack of layers")
    taken: set[int] = set()

    def take(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        kept = [p for p in parameters if p.requires_grad and id(p) not in taken]
        taken.update(map(id, kept))
        return kept

    split = [take(layer.parameters()) for layer in layers]
    below = [p for name, p in model.named_parameters() if _is_embedding(model, name)]
    return Parts(embeddings=take(below), layers=split, top=take(model.parameters()))


def _is_embedding(model: nn.Module, name: str) -> bool:
    """Of a parameter outside the layers: by its module's kind, and by name for the norms that belong to them."""
    return "embed" in name or isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)


def share(layers: int, of_them: float) -> int:
    """How many layers a share of them is: at least one."""
    return max(1, round(layers * of_them))


def spread(layers: int, kept: int) -> list[int]:
    """`kept` of `layers` layers at even distances, the first among them: 3 of 6 are 0, 2, 4, every other one, as
    DistilBERT starts (arXiv 1910.01108, section 2)."""
    return [i * layers // kept for i in range(kept)]


def keep(model: nn.Module, chosen: Mapping[str, Sequence[int]]) -> None:
    """Remove all but the chosen layers of every named stack, weights and all, and say so in the configuration, so that
    the saved model loads as it is.

    Raises:
        NotApplicable: what is left is no model of its class (T5's first layers hold what later ones need).
    """
    both = len(stacks(model)) > 1
    for name, indices in chosen.items():
        stack = model.get_submodule(name)
        left = nn.ModuleList(stack[i] for i in indices)  # type: ignore[index]
        model.set_submodule(name, left)
        for place, layer in enumerate(left):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):  # Where its keys and values are cached.
                    module.layer_idx = place  # type: ignore[assignment]
        _configure(model.config, indices, (_DECODER if "decoder" in name else _ENCODER) if both else ())
    _check(model)


def _configure(config: Any, indices: Sequence[int], names: Sequence[str]) -> None:
    for name in [n for n in names if hasattr(config, n)] or ["num_hidden_layers"]:
        setattr(config, name, len(indices))
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in indices]


def empty(model: nn.Module) -> nn.Module:
    """A model of the same class and configuration without weights."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


def _check(model: nn.Module) -> None:
    fresh = empty(model)
    expected, found = ({k: v.shape for k, v in m.state_dict().items()} for m in (fresh, model))
    if expected != found:
        differing = sorted(expected.items() ^ found.items(), key=str)[0][0]
        raise NotApplicable(f"{type(model).__name__} can't do without these layers ({differing})")
