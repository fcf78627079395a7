"""The last layer of an encoder for the one position that its task head reads.

Attention mixes tokens by keys and values alone, so nothing else of the last layer's other positions reaches a head that
reads the first token: not its answers, not its loss, not a gradient. Dropout draws fewer numbers, so a run with dropout
isn't the one that computes all positions.
"""

import functools
from typing import Any

from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from peftbench.models import layers
from peftbench.models.encoder_compat import HEADS, LAYERS, attention_of

#: The name under which a backbone holds its narrowed layer: in a list, which torch doesn't take for a part of it.
_HELD = "narrowed_layers"


def install(model: nn.Module) -> bool:
    """Narrow the last layer, and say whether that was possible: not where the head reads more than the first position
    or something has taken the place of the layer or of its attention.

    The layer's class is replaced, so that copies are narrow as well; nothing changes for what is saved. Called with
    `output_hidden_states` or `output_attentions`, the model computes all positions.
    """
    head = next((module for module in model.modules() if _name(type(module)) in HEADS), None)
    stacks = [] if head is None else list(layers.stacks(head).values())
    if head is None or len(stacks) != 1 or not stacks[0] or not _reads_first(head):
        return False
    last, backbone = _alternatives(stacks[0][-1]), getattr(head, str(head.base_model_prefix))
    if not all(isinstance(layer, _Narrowed) or _as_written(layer) for layer in last):
        return False
    for layer in last:
        if not isinstance(layer, _Narrowed):
            kind: Any = type(layer)  # Hashable, which mypy doesn't see of `type[Any]`.
            layer.__class__ = _subclass(kind)
        layer.one_position = True
    if not hasattr(backbone, _HELD):
        backbone.register_forward_pre_hook(_choose, with_kwargs=True)
    setattr(backbone, _HELD, last)
    return True


def installed(model: nn.Module) -> bool:
    """True if a layer of the model is narrowed."""
    return any(isinstance(module, _Narrowed) for module in model.modules())


def _alternatives(layer: Any) -> list[Any]:
    """A layer, or those that peft chooses between where it is trained whole: the original and its copies."""
    if isinstance(layer, ModulesToSaveWrapper):
        return [layer.original_module, *layer.modules_to_save.values()]
    return [layer]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _reads_first(head: Any) -> bool:
    return getattr(head.config, "classifier_pooling", "cls") == "cls"


def _as_written(layer: Any) -> bool:
    """True if a layer and its attention are transformers' own: an adapter may have wrapped them whole."""
    own = type(layer).__module__
    return (
        _name(type(layer)) in LAYERS
        and not getattr(layer, "is_decoder", False)
        and all(type(module).__module__ == own for module in attention_of(layer))
    )


def _choose(backbone: Any, _: Any, named: dict[str, Any]) -> None:
    """Computes all positions where more than the last one's result is asked for."""
    asked = ("output_hidden_states", "output_attentions")
    wanted = [named.get(name) or getattr(backbone.config, name, False) for name in asked]
    for layer in getattr(backbone, _HELD):
        layer.one_position = not any(wanted)


class _Narrowed:
    """Marks the classes that `_subclass` makes."""


@functools.cache  # One class for all modules of a class.
def _subclass(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass of the same name whose forward pass gives the first position where `one_position` is set."""
    first = LAYERS[_name(kind)]

    class OnePosition(_Narrowed, kind):  # type: ignore[misc, valid-type]
        one_position: bool

        def forward(self, *inputs: Any, **named: Any) -> Any:
            return first(self, *inputs, **named) if self.one_position else super().forward(*inputs, **named)

    OnePosition.__name__, OnePosition.__qualname__ = kind.__name__, kind.__qualname__
    OnePosition.__module__ = kind.__module__  # Where its own code looks for functions.
    return OnePosition
