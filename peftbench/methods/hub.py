"""`Hub`: any method that is a configuration of peft (the library, not the model hub), or of a tuner that we registered
with it."""

import copy
import dataclasses
import inspect
import re
import typing
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback
from peft import PeftConfig, PeftModel, PromptLearningConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from peftbench.config import targets
from peftbench.config.types import MethodConfig, RunConfig
from peftbench.errors import ConfigError, NotApplicable, nearest
from peftbench.methods import cached_features
from peftbench.methods.base import Context, Method
from peftbench.methods.nearest_tokens import nearest_tokens
from peftbench.methods.tuners import made_prompts, peft_compat
from peftbench.methods.tuners.adapter import MaskedTuner
from peftbench.methods.tuners.classification import NO_POSITIONS, with_head
from peftbench.models import frozen
from peftbench.models.features import Features
from peftbench.models.parameters import in_head

#: What peft raises where its configuration, or the model, isn't what a tuner takes.
_REFUSALS = (ValueError, TypeError, AssertionError, AttributeError, KeyError, NotImplementedError, re.error)


class Hub(Method):
    """Wraps the model by `get_peft_model` with the configuration that `method.adapter` describes."""

    def __init__(self, config: MethodConfig) -> None:
        super().__init__(config)
        arguments = dict(config.adapter or {})
        named = targets.subclass("method.adapter._target_", arguments.pop("_target_", None), PeftConfig)
        allowed = list(inspect.signature(named).parameters)
        for name in arguments:
            if name not in allowed:
                raise ConfigError(
                    f"method.adapter.{name}: {named.__name__} has no such argument; {nearest(name, allowed)}"
                )
        targets.check_arguments("method.adapter", arguments)
        self._class = with_head(named)
        self._given = arguments
        cached = config.args.get("cache_features")
        if cached not in (None, True, False):
            raise ConfigError(f"method.args.cache_features={cached}: allowed is true | false")
        self._cached = bool(cached)
        self._features: Features | None = None

    def refusal(self, config: RunConfig) -> str | None:
        usual = super().refusal(config)
        if usual is None and self._cached:
            return cached_features.refusal(config)
        return usual

    def arguments(self, model: nn.Module, context: Context) -> dict[str, Any]:
        """Arguments of the peft configuration that depend on this run; they override `method.adapter`."""
        return {}

    def inject(self, model: nn.Module, config: PeftConfig, context: Context) -> PeftModel:
        """The adapted model."""
        return get_peft_model(model, config)

    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Raises ConfigError for arguments that peft refuses, NotApplicable if it can't adapt this model by them."""
        config = self._configure(model, context)
        where = f"method={self.config.name} on model={context.model.name}"
        if config.is_prompt_learning and context.task.formulation == "head" and _is_encoder_decoder(model):
            raise NotApplicable(f"{where}: with a classification head it takes no virtual tokens")
        try:
            adapted = self.inject(model, config, context)
        except _REFUSALS as error:
            raise NotApplicable(f"{where}: {error}") from error
        head = [] if getattr(config, "trains_head_alone", False) else context.model.head
        if not any(p.requires_grad and not in_head(name, head) for name, p in adapted.named_parameters()):
            raise NotApplicable(f"{where}: nothing but the head would be trained")
        config.base_model_name_or_path = context.model.checkpoint
        config.revision = context.model.revision
        if self._cached:
            self._features = cached_features.attach(adapted, context)
        return adapted

    def callbacks(self) -> list[Callback]:
        return [*super().callbacks(), *([cached_features.Detach(self._features)] if self._features else [])]

    def _configure(self, model: nn.Module, context: Context) -> PeftConfig:
        # Named outright: peft's own guess (classifier, score) misses DeBERTa's pooler and ModernBERT's head.
        head = context.model.head if context.task.formulation == "head" else []
        chosen = {**self._given, **self.arguments(model, context)}
        also = list(chosen.get("modules_to_save") or [])
        fields = {f.name for f in dataclasses.fields(self._class)}
        named = {"task_type": context.task.peft_type, "modules_to_save": [*head, *also] or None}
        named |= _sizes(model) if issubclass(self._class, PromptLearningConfig) else {}
        arguments = {**chosen, **{k: v for k, v in named.items() if k in fields}}
        try:
            config: PeftConfig = self._class(**_with_parts(self._class, arguments))
        except _REFUSALS as error:
            raise ConfigError(f"method={self.config.name}: {error}") from error
        return config

    def needs_mask(self, model: nn.Module) -> bool:
        if not isinstance(model, PeftModel):  # Folded into the base's weights, nothing of the method reads anything.
            return super().needs_mask(model)
        adapted: Any = model
        tuner = adapted.base_model
        names_it = "attention_mask" in inspect.signature(type(tuner).forward).parameters
        config = adapted.active_peft_config
        counts = names_it or isinstance(tuner, MaskedTuner) or self._features is not None
        reads = counts or config.peft_type in peft_compat.READ_ALL_POSITIONS
        return config.is_prompt_learning or reads or super().needs_mask(model)

    def needs_all_positions(self, model: nn.Module) -> bool:
        """A prompt moves the token that the head reads, and a tuner may say that it looks at all of them."""
        adapted: Any = model
        config = adapted.active_peft_config
        if config.is_prompt_learning:
            return config.peft_type not in NO_POSITIONS
        says_so = getattr(adapted.base_model, "reads_all_positions", False)
        return says_so or config.peft_type in peft_compat.READ_ALL_POSITIONS or super().needs_all_positions(model)

    def reads_weights(self, model: nn.Module) -> bool:
        """A tuner of ours says so by its own `reads_weights`."""
        adapted: Any = model
        says_so = getattr(adapted.base_model, "reads_weights", None)
        return peft_compat.reads_weights(adapted.active_peft_config) or (says_so is not None and says_so())

    def save(self, model: nn.Module, folder: Path) -> None:
        # "auto" would ask the hub whether the embeddings were resized; no method here does that.
        model.save_pretrained(folder, save_embedding_layers=False)  # type: ignore[operator]

    def describe(self, model: nn.Module, tokenizer: Any) -> dict[str, Any]:
        """`soft_prompt`: of every virtual token that stands before the input's embeddings the nearest real ones."""
        adapted: Any = model
        config = adapted.active_peft_config
        if not config.is_prompt_learning or config.peft_type in NO_POSITIONS:
            return {}
        with torch.no_grad():
            prompt = adapted.get_prompt(1, task_ids=torch.zeros(1, dtype=torch.long, device=adapted.device))[0]
            # peft keeps as many again for a decoder that it never puts them before.
            vectors = prompt[: config.num_virtual_tokens]
            return {"soft_prompt": nearest_tokens(vectors, adapted.word_embeddings.weight, tokenizer)}

    def merge(self, model: nn.Module) -> nn.Module | None:
        """Folded by hand: peft's `merge_and_unload` raises on RoBERTa's head for most tuners (peft#3114)."""
        if not self.config.mergeable or model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]
            return None
        plain = copy.deepcopy(model).get_base_model()  # type: ignore[operator]
        for name, module in list(plain.named_modules()):
            if isinstance(module, BaseTunerLayer):
                layer: Any = module  # A Module too, which its type doesn't say.
                try:
                    with frozen.in_32_bits(layer):
                        layer.merge()
                except ValueError:  # BEFT, where the base has no bias to fold into.
                    return None
                plain.set_submodule(name, module.get_base_layer())
            elif isinstance(module, ModulesToSaveWrapper):
                plain.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
        return plain

    def deployed(self, model: nn.Module) -> AbstractContextManager[None]:
        return made_prompts.made(model)  # type: ignore[arg-type]


def _sizes(model: nn.Module) -> dict[str, Any]:
    """Widths and depths of a model whose configuration has names for them that peft doesn't know (DistilBERT)."""
    config: Any = model.config
    if {"hidden_size", "n_embd", "d_model"} & set(config.to_dict()):
        return {}
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    return {"token_dim": config.hidden_size, "num_attention_heads": heads, "num_layers": layers}


def check_rows(model: nn.Module) -> None:
    """Raises ValueError for models (DeBERTa) whose adapted layers are also given relative positions, one row in all:
    for methods that expect a row an example."""
    if getattr(model.config, "share_att_key", False):
        raise ValueError("needs a row for each example, and this model projects positions by the same layers")


def _is_encoder_decoder(model: nn.Module) -> bool:
    return bool(getattr(model.config, "is_encoder_decoder", False))


def _with_parts(config_class: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments that are configurations themselves (`eva_config: {_target_: peft.EvaConfig, rho: 2}`) built."""
    return {
        name: _built(config_class, name, value) if isinstance(value, dict) else value
        for name, value in arguments.items()
    }


def _built(config_class: type, name: str, value: dict[str, Any]) -> Any:
    if "_target_" not in value:
        return value
    arguments = dict(value)
    path = arguments.pop("_target_")
    part_class = targets.subclass(f"method.adapter.{name}._target_", path, object)
    hint = typing.get_type_hints(config_class).get(name)
    allowed = [kind for kind in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(kind)]
    if part_class not in allowed:
        names = ", ".join(kind.__name__ for kind in allowed) or "no class"  # type: ignore[union-attr]
        raise ConfigError(f"method.adapter.{name}._target_={path}: allowed is {names}")
    return part_class(**arguments)
