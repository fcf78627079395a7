"""Any method that is a peft configuration: those of the peft library and our own registered tuners."""

import copy
import dataclasses
import inspect
import re
from pathlib import Path

from peft import PeftConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from peftbench import imports
from peftbench.errors import ConfigError, nearest
from peftbench.methods.base import Context, Method
from peftbench.schema import MethodConfig


class Hub(Method):
    """Wraps the model by `get_peft_model` with the configuration that `method.adapter` describes."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        arguments = dict(config.adapter or {})
        self._class = imports.subclass("method.adapter._target_", arguments.pop("_target_", None), PeftConfig)
        known = list(inspect.signature(self._class).parameters)
        for name in arguments:
            if name not in known:
                raise ConfigError(
                    f"method.adapter.{name}: {self._class.__name__} has no such argument; {nearest(name, known)}"
                )
        self._arguments = arguments

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Raises ConfigError if peft refuses the arguments on this model, or if nothing would be trained."""
        # Named outright: peft's own guess (classifier, score) misses DeBERTa's pooler and ModernBERT's head.
        also = list(self._arguments.get("modules_to_save") or [])
        named = {"task_type": context.task.peft_type, "modules_to_save": [*context.model.head, *also]}
        fields = {f.name for f in dataclasses.fields(self._class)}
        try:
            config = self._class(**{**self._arguments, **{k: v for k, v in named.items() if k in fields}})
            adapted = get_peft_model(model, config)  # type: ignore[arg-type]
        except (ValueError, TypeError, AssertionError, AttributeError, KeyError, re.error) as error:
            raise ConfigError(f"method={self.config.name} on model={context.model.name}: {error}") from error
        if not any(p.requires_grad for p in adapted.parameters()):
            raise ConfigError(f"method={self.config.name} on model={context.model.name}: nothing would be trained")
        config.base_model_name_or_path = context.model.checkpoint
        config.revision = context.model.revision
        return adapted

    def save(self, model: nn.Module, folder: Path) -> None:
        # "auto" would ask the hub whether the embeddings were resized; no method here does that.
        model.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[operator]

    def merge(self, model: nn.Module) -> nn.Module | None:
        """Folded by hand: peft's `merge_and_unload` raises on RoBERTa's head for most tuners (peft#3114)."""
        if model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]
            return None
        plain = copy.deepcopy(model).get_base_model()  # type: ignore[operator]
        for name, module in list(plain.named_modules()):
            if isinstance(module, BaseTunerLayer):
                try:
                    module.merge()
                except NotImplementedError:
                    return None
                plain.set_submodule(name, module.get_base_layer())
            elif isinstance(module, ModulesToSaveWrapper):
                plain.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
        return plain
