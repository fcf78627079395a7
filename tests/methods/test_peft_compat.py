"""What `peft_compat` uses of peft's private API is there in the installed peft, and as it was when it was written."""

import importlib
import inspect
import pkgutil
from typing import Any

import peft
import pytest
from peft import AdaLoraConfig, LoraConfig, PeftModel, PromptTuningConfig, get_peft_model, mapping
from peft.mapping_func import MODEL_TYPE_TO_PEFT_MODEL_MAPPING
from peft.tuners import tuners_utils
from peft.tuners.tuners_utils import BaseTuner
from torch import nn

from peftbench import methods
from peftbench.methods.tuners import peft_compat
from peftbench.methods.tuners.classification import SequenceClassifier
from tests.helpers.tuner_families import base


def changed(base_class: type, overridden: dict[str, list[str]]) -> list[str]:
    """A line for each method that a base class hasn't any more, or calls with other parameters."""
    lines = []
    for name, expected in overridden.items():
        method = getattr(base_class, name, None)
        if method is None:
            lines.append(f"{base_class.__name__}.{name} is gone from peft {peft.__version__}")
            continue
        parameters = inspect.signature(method).parameters.values()
        needed = [p.name for p in parameters if p.name != "self" and p.default is inspect.Parameter.empty]
        if needed != expected:
            lines.append(f"{base_class.__name__}.{name} takes {needed}, and took {expected}")
    return lines


def own_tuners(kind: type = BaseTuner) -> set[type]:
    for module in pkgutil.walk_packages(methods.__path__, f"{methods.__name__}."):
        importlib.import_module(module.name)
    below = {tuner for child in kind.__subclasses__() for tuner in (child, *own_tuners(child))}
    return {tuner for tuner in below if tuner.__module__.startswith("peftbench.")}


def test_the_installed_peft_is_the_one_written_against() -> None:
    assert peft.__version__.startswith(f"{peft_compat.WRITTEN_AGAINST}."), (
        f"peft {peft.__version__}: compare methods/tuners/peft_compat.py with it, then raise WRITTEN_AGAINST"
    )


def test_the_overridden_methods_are_what_they_were() -> None:
    assert changed(BaseTuner, peft_compat.OVERRIDDEN) == []


def test_a_change_is_named() -> None:
    class Other:
        def _replace_module(self, parent: Any, child: Any) -> None: ...

    wanted = {name: peft_compat.OVERRIDDEN[name] for name in ("_replace_module", "_prepare_model")}
    moved, gone = changed(Other, wanted)
    assert moved.startswith("Other._replace_module takes ['parent', 'child'], and took ['parent', 'child_name'")
    assert gone.startswith("Other._prepare_model is gone from peft ")


def test_every_private_method_that_is_overridden_is_listed() -> None:
    tuners = own_tuners()
    assert len(tuners) > 10
    private = {name for name in vars(BaseTuner) if name.startswith("_") and not name.startswith("__")} - {"_abc_impl"}
    assert {name for tuner in tuners for name in vars(tuner)} & private == set(peft_compat.OVERRIDDEN)


def test_the_tables_are_peft_s_own() -> None:
    assert peft_compat.config_classes() is mapping.PEFT_TYPE_TO_CONFIG_MAPPING
    tables = (mapping.PEFT_TYPE_TO_TUNER_MAPPING, mapping.PEFT_TYPE_TO_PREFIX_MAPPING)
    assert all("LORA" in table and "BITFIT" in table for table in tables)
    assert MODEL_TYPE_TO_PEFT_MODEL_MAPPING["SEQ_CLS"] is SequenceClassifier
    assert "CAUSAL_LM" in MODEL_TYPE_TO_PEFT_MODEL_MAPPING


def test_the_function_of_all_linear_takes_a_configuration_and_a_model() -> None:
    assert list(inspect.signature(tuners_utils._maybe_include_all_linear_layers).parameters) == ["peft_config", "model"]
    config = LoraConfig(task_type="SEQ_CLS", target_modules="all-linear")
    peft_compat.name_all_linear(config, base("bert"))
    assert any(name.endswith("query") for name in config.target_modules)


def test_buffers_may_be_persistent() -> None:
    assert list(inspect.signature(peft_compat.BufferDict).parameters) == ["buffers", "persistent"]
    assert issubclass(peft_compat.BufferDict, nn.Module)


def test_a_model_with_a_prompt_has_what_is_set_to_disable_it() -> None:
    model = get_peft_model(base("bert"), PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2))
    assert model._adapters_disabled is False
    assert "_adapters_disabled" in inspect.getsource(PeftModel)
    with peft_compat.prompt_disabled(model):
        assert model.forward == model.base_model.forward
    assert model._adapters_disabled is False


def test_kasa_s_loss_needs_no_argument() -> None:
    tuner = get_peft_model(base("bert"), LoraConfig(task_type="SEQ_CLS")).base_model
    inspect.signature(tuner._get_kasa_loss).bind()


@pytest.mark.parametrize("name", peft_compat.RANK_AVERAGES)
def test_adalora_s_allocator_has_its_averages(name: str) -> None:
    config = AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query"], total_step=10)
    tuner = get_peft_model(base("bert"), config).base_model
    assert getattr(tuner.rankallocator, name) == {}
    assert list(inspect.signature(tuner.update_and_allocate).parameters) == ["global_step"]
