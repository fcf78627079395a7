"""A model's layers: where they are, and a model with fewer of them. For methods that treat layers differently.

A stack is an outermost `ModuleList`: the layers of an encoder or of a decoder in the order in which they run. An
encoder-decoder has two stacks.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from peftbench.errors import NotApplicable

#: The names of the number of layers in an encoder-decoder's configuration, of its encoder and of its decoder.
_ENCODER, _DECODER = ("encoder_layers", "num_layers"), ("decoder_layers", "num_decoder_layers")


@dataclass(frozen=True)
class ParametersByPlace:
    """A model's trained parameters by their place: `embeddings`, `layers` from the first that runs to the last, and
    `top`, what is above the layers (norms, pooler, head)."""

    embeddings: list[nn.Parameter]
    layers: list[list[nn.Parameter]]
    top: list[nn.Parameter]


def stacks(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Every stack by its dotted name."""
    outermost: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and not any(name.startswith(f"{outer}.") for outer in outermost):
            outermost[name] = module
    return outermost


def parts(model: nn.Module) -> ParametersByPlace:
    """The parts of a model. Each trained parameter is in one of them, a tied one in the first that has it.

    Raises:
        NotApplicable: the model has no layers.
    """
    layers = [layer for stack in stacks(model).values() for layer in stack]
    if not layers:
        raise NotApplicable(f"{type(model).__name__} has no stack of layers")
    taken: set[int] = set()

    def take(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
        free = [p for p in parameters if p.requires_grad and id(p) not in taken]
        taken.update(map(id, free))
        return free

    split = [take(layer.parameters()) for layer in layers]
    below = [p for name, p in model.named_parameters() if _is_embedding(model, name)]
    return ParametersByPlace(embeddings=take(below), layers=split, top=take(model.parameters()))


def _is_embedding(model: nn.Module, name: str) -> bool:
    """True if a parameter outside the layers is an embedding's: by its module's class, or by name for the norms of
    embeddings."""
    return "embed" in name or isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding)


def share(layers: int, of_them: float) -> int:
    """The number of layers that a share `of_them`, from 0 to 1, is: one at least."""
    return max(1, round(layers * of_them))


def spread(layers: int, count: int) -> list[int]:
    """The numbers of `count` of `layers` layers at even distances, with the first: 3 of 6 are 0, 2, 4, every other one,
    as DistilBERT starts (arXiv 1910.01108, section 2)."""
    return [i * layers // count for i in range(count)]


def keep(model: nn.Module, chosen: Mapping[str, Sequence[int]]) -> None:
    """Remove all but the chosen layers of every named stack with their weights, and change the model's configuration
    accordingly, so that the saved model can be loaded.

    Raises:
        NotApplicable: the rest is no model of its class (T5's first layers hold what later ones need).
    """
    both = len(stacks(model)) > 1
    for name, indices in chosen.items():
        stack = model.get_submodule(name)
        left = nn.ModuleList(stack[i] for i in indices)  # type: ignore[index]
        model.set_submodule(name, left)
        for place, layer in enumerate(left):
            for module in layer.modules():
                if hasattr(module, "layer_idx"):  # The index of its keys and values in the cache.
                    module.layer_idx = place  # type: ignore[assignment]
        _configure(model.config, indices, (_DECODER if "decoder" in name else _ENCODER) if both else ())
    _check(model)


def _configure(config: Any, indices: Sequence[int], names: Sequence[str]) -> None:
    """Set the number of layers under those of `names` that the configuration has, and keep these layers' types."""
    for name in [n for n in names if hasattr(config, n)] or ["num_hidden_layers"]:
        setattr(config, name, len(indices))
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[i] for i in indices]


def empty(model: nn.Module) -> nn.Module:
    """A model of the same class and configuration on the meta device: without weights."""
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config))


def _check(model: nn.Module) -> None:
    """Raises NotApplicable if the configuration makes another model than this one."""
    expected, actual = ({k: v.shape for k, v in m.state_dict().items()} for m in (empty(model), model))
    if expected != actual:
        differing = sorted(expected.items() ^ actual.items(), key=str)[0][0]
        raise NotApplicable(f"{type(model).__name__} can't do without these layers ({differing})")
