"""Our own peft tuners, found by their files in conf/method."""

import copy
from typing import Any

import torch
from peft import PeftModel

from peftbench.methods.hub import Hub
from tests.helpers.built import Built, shake
from tests.helpers.composed import adapter_classes


def own_methods() -> list[str]:
    """The methods whose adapter is a configuration of ours."""
    return [name for name, kind in adapter_classes(Hub).items() if kind.__module__.startswith("peftbench.")]


def add_second(model: PeftModel) -> None:
    """A second adapter like the first, in use and with other weights."""
    model.add_adapter("second", copy.deepcopy(model.peft_config["default"]))
    model.set_adapter("second")
    shake(model, seed=1)


def layers_of(case: Built, kind: type[torch.nn.Module]) -> dict[str, torch.nn.Module]:
    """The model's modules of a class, by name."""
    adapted: Any = case.model
    return {n: m for n, m in adapted.get_base_model().named_modules() if isinstance(m, kind)}
