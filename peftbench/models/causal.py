"""What a model is called with: a causal one needs no mask where padding stands behind the text."""

import inspect

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
