"""Linear probing: the base model is frozen whole, the task head alone is trained.

Source: Alain and Bengio, "Understanding intermediate layers using linear classifier probes",
arXiv 1610.01644, here on the last layer only. Equation: y = head(backbone(x)), backbone fixed.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import nn

from peftbench.methods.tuners.adapter import AdapterTuner, register


@dataclass
class HeadOnlyConfig(PeftConfig):
    """`modules_to_save`: name endings of what is trained, i.e. the head. peft adds it itself for
    sequence classification; name it for every other task."""

    modules_to_save: list[str] | None = None
    # The one value with which peft lets a tuner match no module. No field: it is never saved.
    target_modules: ClassVar[str] = DUMMY_TARGET_MODULES
    trains_head_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = "HEAD_ONLY"


class HeadOnlyTuner(BaseTuner):
    """Wraps nothing: peft's `modules_to_save` does all the work.

    Raises ValueError if `modules_to_save` is empty or none of it is in the model, where peft would
    train nothing without a word.
    """

    prefix = "head_only_"
    tuner_layer_cls = BaseTunerLayer
    target_module_mapping: dict[str, list[str]] = {}
    _replace_module = AdapterTuner._replace_module  # for merge_and_unload

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        heads = tuple(peft_config.modules_to_save or ())
        if not heads:
            raise ValueError("head_only: modules_to_save must name the head: it is all that trains")
        if not any(name.endswith(heads) for name, _ in model.named_modules()):
            kind = type(model).__name__
            raise ValueError(f"head_only: modules_to_save={list(heads)} match nothing in {kind}")

    def _create_and_replace(self, *args: object, **kwargs: object) -> None:
        raise ValueError("head_only: there is no layer to adapt")


register("HEAD_ONLY", config_class=HeadOnlyConfig, tuner_class=HeadOnlyTuner, prefix="head_only_")
