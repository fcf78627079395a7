"""What peftbench's own tuners share: registration with peft, target checks, wrapping a layer.

A tuner is three classes: a config (what the user sets), a layer (the
mathematics, an `AdapterLayer`) and a tuner (which modules get the layer, an `AdapterTuner`).
"""

import re
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND
from torch import nn

from peftbench.methods.tuners import peft_compat


def register(
    peft_type: str,
    *,
    config_class: type[PeftConfig],
    tuner_class: type[BaseTuner],
    prefix: str,
) -> None:
    """Makes `get_peft_model`, `save_pretrained` and `PeftModel.from_pretrained` know a tuner.

    A process that loads a saved adapter must have imported the module that calls this. Calling it again is harmless.

    Args:
        prefix: what the names of all the tuner's parameters begin with.

    Raises:
        ValueError: the name belongs to another config class.
    """
    registered = peft_compat.config_classes().get(peft_type, config_class)
    # compared by name: a reloaded module brings a new class object
    if (registered.__module__, registered.__name__) != (config_class.__module__, config_class.__name__):
        raise ValueError(f"the adapter type {peft_type!r} is taken by {registered.__name__}")
    peft_compat.add_tuner(peft_type, config_class=config_class, tuner_class=tuner_class, prefix=prefix)


def names_module(wanted: list[str] | str | None, name: str) -> bool:
    """True if a module's name has one of these endings, or matches the regular expression whole."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(f".{name}".endswith(f".{ending}") for ending in wanted or ())


def trained_whole(config: Any, name: str) -> bool:
    """True for a module that peft copies and trains whole (`modules_to_save`), and for every part of one.

    peft finds those by plain `endswith`, so "classifier" takes DistilBERT's `pre_classifier` too,
    and raises if an adapter is there already. The other two names are the insides of peft's
    wrapper, met when a second adapter is added.
    """
    saved = [*(config.modules_to_save or ()), "original_module", "modules_to_save"]
    return any(re.search(rf"{re.escape(ending)}(\.|$)", name) for ending in saved)


def refuse_merge(*_: object, **__: object) -> None:
    """`merge` of a layer and `_check_merge_allowed` of a tuner that have nothing to fold into the weights."""
    raise NotImplementedError("what this adapter adds isn't linear in the layer's input: it can't be merged")


class AdapterParameters(nn.ParameterDict):
    """Parameters by adapter name. Where peft casts or moves an entry it assigns a plain tensor, of
    which torch makes a trainable Parameter: here the new one is as frozen as the old one was."""

    def __setitem__(self, key: str, value: Any) -> None:
        trainable = self[key].requires_grad if key in self else True
        super().__setitem__(key, value)
        self[key].requires_grad_(trainable)


class AdapterLayer(nn.Module, BaseTunerLayer):
    """Wraps `base_layer`. A subclass keeps its tensors in dicts by adapter name and lists the dicts
    in `adapter_layer_names`. Nothing may nest deeper than `up.<adapter>.weight`: peft drops the
    adapter's name from a saved key only where it is last or last but one.
    """

    base_layer: Any  # what kind of module it is the tuner has checked

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.merged_adapters: list[str] = []

    @abstractmethod
    def update_layer(self, adapter_name: str, config: Any) -> None:
        """Adds the tensors of one more adapter of this layer's config class, on its device."""

    def in_use(self) -> list[str]:
        """The adapters that take part in this layer's forward pass."""
        if self.disable_adapters:
            return []
        present = getattr(self, self.adapter_layer_names[0])
        return [name for name in self.active_adapters if name in present]


class AdapterTuner(BaseTuner):
    """A peft tuner that wraps what `config.target_modules` names in its own layer class.

    These are read as everywhere in peft: a list of name endings, one regular expression for the
    whole name, or "all-linear". None means `is_default_target`, and stays None in the saved config.
    Raises ValueError, before it changes the model, for targets that aren't there.
    """

    method: ClassVar[str]
    #: The config's fields that say what is adapted; a hybrid has several.
    target_fields: ClassVar[tuple[str, ...]] = ("target_modules",)
    target_module_mapping: dict[str, list[str]] = {}
    tuner_layer_cls: type[AdapterLayer]
    #: Whether its layers look at other positions than the one that they change, or at the sequence's length.
    reads_all_positions: ClassVar[bool] = False

    def reads_weights(self) -> bool:
        """True if its layers read the weight of the linear layer that they wrap, beside calling it."""
        return False

    def is_default_target(self, module: nn.Module) -> bool:
        """True if `target_modules=None` means this module."""
        return False

    @abstractmethod
    def check_target(self, name: str, module: nn.Module) -> None:
        """Raises ValueError if `module`, which is called `name` in the model, can't be adapted."""

    @abstractmethod
    def wrap(self, name: str, module: nn.Module, config: Any) -> AdapterLayer:
        """A layer around a module that `check_target` has let pass, without an adapter yet."""

    # The methods from `_prepare_adapter_config` on are peft's private API: `peft_compat.OVERRIDDEN` lists them.

    def _bare(self, name: str) -> nn.Module:
        """The module of that name without the layer that another adapter has put around it."""
        module = self.model.get_submodule(name)
        return module.base_layer if isinstance(module, self.tuner_layer_cls) else module

    def _prepare_adapter_config(self, peft_config: Any, model_config: object) -> Any:
        return peft_config  # peft would look target_modules up in its table of architectures

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        if peft_config.target_modules == INCLUDE_LINEAR_LAYERS_SHORTHAND:
            peft_compat.name_all_linear(peft_config, model)
            linear = sorted(peft_config.target_modules)  # parts of the head among them
            peft_config.target_modules = [n for n in linear if not trained_whole(peft_config, n)]
        names = [name for name, _ in model.named_modules() if name]
        targets = [name for name in names if self._check_target_module_exists(peft_config, name)]
        for field in self.target_fields:
            wanted = getattr(peft_config, field)
            absent = wanted
            if not isinstance(wanted, str):
                absent = [e for e in wanted or () if not any(names_module([e], name) for name in targets)]
            elif any(names_module(wanted, name) for name in targets):
                absent = None
            if absent or not targets:
                kind = type(model).__name__
                raise ValueError(f"{self.method}: {field}={absent or wanted!r} match nothing in {kind}")
        for name in targets:
            self.check_target(name, self._bare(name))

    # peft declares a static method and calls it on the tuner; what is a default target needs the model.
    def _check_target_module_exists(self, peft_config: Any, key: str) -> bool:  # type: ignore[override]
        if trained_whole(peft_config, key):
            return False
        if peft_config.target_modules is None:
            return self.is_default_target(self._bare(key))
        return any(names_module(getattr(peft_config, field), key) for field in self.target_fields)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target if isinstance(target, self.tuner_layer_cls) else self.wrap(current_key, target, peft_config)
        layer.update_layer(adapter_name, peft_config)
        setattr(parent, target_name, layer)

    def _replace_module(self, parent: Any, child_name: str, new_module: Any, child: Any) -> None:
        # peft copies `weight` over as well, which a RoBERTa classification head doesn't have.
        setattr(parent, child_name, new_module)


class TokenMask:
    """The mask of the sequence that is being read, which layers must know: `mask`, (n, length), ones at real tokens, or
    None."""

    mask: torch.Tensor | None = None


class MaskedTuner(AdapterTuner):
    """Tells its layers which tokens are real, by one object that they all hold, `reading`."""

    reads_all_positions = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.reading = TokenMask()  # Before peft's own, which makes the layers.
        super().__init__(*args, **kwargs)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # Kept until the next call: gradient checkpointing runs layers again after this one.
        self.reading.mask = kwargs.get("attention_mask")
        return super().forward(*args, **kwargs)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own `generate`, whose steps don't pass through `forward`."""
        mask = kwargs.get("attention_mask")
        ids = args[0] if args else kwargs.get("input_ids")
        self.reading.mask = torch.ones_like(ids) if mask is None and ids is not None else mask
        return self.model.generate(*args, **kwargs)
