"""Everything of peft that isn't its public API, in one place. Written against peft 0.21 (`WRITTEN_AGAINST`).

A new version of peft may change any of it without notice: `tests/methods/test_peft_compat.py` compares this file with
the installed peft and says what changed. Each name says why the public API doesn't do.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftConfig, PeftModel, PeftType, mapping
from peft.tuners import tuners_utils

# The one container of peft's whose entries, buffers by adapter name, are saved with an adapter and never trained.
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

__all__ = ["BufferDict"]

WRITTEN_AGAINST = "0.21"

#: The private methods of `BaseTuner` that our tuners override, with the parameters that peft calls them with. peft has
#: no other way to say what a tuner adapts, and how.
OVERRIDDEN = {
    "_prepare_adapter_config": ["peft_config", "model_config"],
    "_prepare_model": ["peft_config", "model"],
    "_check_target_module_exists": ["peft_config", "key"],
    "_create_and_replace": ["peft_config", "adapter_name", "target", "target_name", "parent", "current_key"],
    "_replace_module": ["parent", "child_name", "new_module", "child"],
    "_check_merge_allowed": [],
}

#: peft's adapters whose layers look at all positions outside attention: Lily's router takes a mean over them, X-LoRA's
#: gate weighs them, ShadowPEFT's network reads their hidden states. peft has no attribute that says so.
READ_ALL_POSITIONS = (PeftType.LILY, PeftType.XLORA, PeftType.SHADOW)

#: peft's adapters whose layers read the weight that they adapt at every step: GLoRA, HiRA and Supertuning multiply it,
#: SHiRA adds to it. peft has no attribute that says so.
READ_WEIGHTS = (PeftType.GLORA, PeftType.HIRA, PeftType.SHIRA, PeftType.SUPERTUNING)

#: AdaLoRA's allocator: section 3.2's sensitivity, its average and its uncertainty, by parameter name.
RANK_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")

# peft's own `register_peft_method` refuses names outside its enum; the dicts it fills take any string.
_TABLES: Any = mapping  # Its dicts are annotated as keyed by the enum.


def config_classes() -> dict[str, type[PeftConfig]]:
    """peft's own table, not a copy: adapter type -> the class that reads its `adapter_config.json`."""
    classes: dict[str, type[PeftConfig]] = _TABLES.PEFT_TYPE_TO_CONFIG_MAPPING
    return classes


def add_tuner(peft_type: str, *, config_class: type[PeftConfig], tuner_class: type[BaseTuner], prefix: str) -> None:
    """Enters a tuner in the three tables that `get_peft_model`, `save_pretrained` and `from_pretrained` read."""
    config_classes()[peft_type] = config_class
    _TABLES.PEFT_TYPE_TO_TUNER_MAPPING[peft_type] = tuner_class
    _TABLES.PEFT_TYPE_TO_PREFIX_MAPPING[peft_type] = prefix


def use_for_sequence_classification(model_class: type[PeftModel]) -> None:
    """Makes `get_peft_model` and `PeftModel.from_pretrained` build this class for `task_type="SEQ_CLS"`: they look it
    up by task type, and take no class from a caller."""
    MODEL_TYPE_TO_PEFT_MODEL_MAPPING["SEQ_CLS"] = model_class


def reads_weights(config: Any) -> bool:
    """True if an adapter's layers read the weight that they adapt. DoRA divides by its norm: LoRA with a switch."""
    return config.peft_type in READ_WEIGHTS or bool(getattr(config, "use_dora", False))


def name_all_linear(config: PeftConfig, model: nn.Module) -> None:
    """Replaces `config.target_modules="all-linear"` by the names of the model's linear modules, in place. The same
    names as for peft's own tuners are wanted, so peft's own function finds them."""
    tuners_utils._maybe_include_all_linear_layers(config, model)


@contextlib.contextmanager
def prompt_disabled(model: Any) -> Iterator[None]:
    """A model with a soft prompt answers as its base model within the block.

    For a prompt `PeftModel.disable_adapter` calls a method that only generating models have, and raises. What it sets
    besides (`_adapters_disabled`, the base model's `forward`) is set and put back here.
    """
    disabled, forward = model._adapters_disabled, model.forward
    try:
        model._adapters_disabled, model.forward = True, model.base_model.forward
        yield
    finally:
        model._adapters_disabled, model.forward = disabled, forward


def kasa_loss(tuner: Any) -> torch.Tensor:
    """KaSA's terms of the loss, a scalar: peft's LoRA computes them and leaves adding them to the training loop."""
    loss: torch.Tensor = tuner._get_kasa_loss()
    return loss


def rank_averages(tuner: Any) -> dict[str, dict[str, torch.Tensor]]:
    """AdaLoRA's running averages, by `RANK_AVERAGES`: peft doesn't save them, and a resumed run needs them."""
    return {name: dict(getattr(tuner.rankallocator, name)) for name in RANK_AVERAGES}


def put_rank_averages(tuner: Any, averages: dict[str, dict[str, torch.Tensor]], device: torch.device) -> None:
    """Puts back what `rank_averages` gave."""
    for name in RANK_AVERAGES:
        setattr(tuner.rankallocator, name, {key: tensor.to(device) for key, tensor in averages[name].items()})
