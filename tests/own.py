"""Our own peft tuners, found by their files in conf/method."""

import copy

import torch
from built import Built, shake
from composed import composed
from hydra.utils import get_class
from peft import PeftModel

from peftbench import paths
from peftbench.methods.build import build
from peftbench.methods.hub import Hub


def own_methods() -> list[str]:
    """The methods whose adapter is a configuration of ours."""
    configs = {method: composed([f"method={method}"]).method for method in paths.choices("method")}
    hubs = {method: config for method, config in configs.items() if issubclass(get_class(config.target), Hub)}
    return [method for method, config in hubs.items() if build(config)._class.__module__.startswith("peftbench.")]


def add_second(model: PeftModel) -> None:
    """A second adapter like the first, in use and with other weights."""
    model.add_adapter("second", copy.deepcopy(model.peft_config["default"]))
    model.set_adapter("second")
    shake(model, seed=1)


def layers_of(case: Built, kind: type[torch.nn.Module]) -> dict[str, torch.nn.Module]:
    """The model's modules of a class, by name."""
    return {n: m for n, m in case.model.get_base_model().named_modules() if isinstance(m, kind)}
