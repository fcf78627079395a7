"""What a causal model needn't be given: a mask where padding stands behind the text."""

import inspect

from peft import PeftModel
from torch import nn


def is_causal(model: nn.Module) -> bool:
    """True if no position of the model looks at a later one: padding behind a text is then never looked at, and a mask
    only keeps attention from its fastest kernel. By what transformers' attention layers say of themselves."""
    layers = [module.is_causal for module in model.modules() if isinstance(getattr(module, "is_causal", None), bool)]
    return bool(layers) and all(layers)


def keeps_logits(model: nn.Module) -> bool:
    """True if the model can be asked for its last logits alone; a checkpoint's own code may not know that."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(base.forward).parameters
