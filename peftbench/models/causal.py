"""How a causal model is called: without a mask where padding stands behind the text, for its last logits alone."""

import inspect
from typing import Any

from peft import PeftModel
from torch import nn


def is_causal(model: nn.Module) -> bool:
    """True if no position of the model looks at a later one: padding behind a text is then never looked at, and a mask
    only keeps attention from its fastest kernel. By what transformers' attention layers say of themselves."""
    layers = [module.is_causal for module in model.modules() if isinstance(getattr(module, "is_causal", None), bool)]
    return bool(layers) and all(layers)


def takes(model: nn.Module, argument: str) -> bool:
    """True if the model that a method prepared is called with an argument of this name; a checkpoint's own code may not
    know it."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return argument in inspect.signature(base.forward).parameters


def last_in_one_piece(model: nn.Module) -> nn.Module:
    """The model, whose output layer is given its input in one piece.

    What transformers keeps of the positions is a view with gaps. A product with that is one for each sequence, each of
    which reads the weights, of the whole vocabulary, anew: a fifth of a step of SmolLM2.
    """
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if isinstance(output, nn.Module):
        output.register_forward_pre_hook(_in_one_piece)
    return model


def _in_one_piece(layer: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() for x in arguments)
