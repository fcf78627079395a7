"""What is written out of transformers' encoder layers is still as it was; that it computes the same:
tests/models/test_one_position.py."""

import importlib
import inspect
from typing import Any

import pytest
import transformers

from peftbench.models import encoder_compat

_REST = "named"


def _class(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _arguments(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [_REST if p.kind is inspect.Parameter.VAR_KEYWORD else p.name for p in parameters][1:]


@pytest.mark.parametrize("path", encoder_compat.LAYERS)
def test_a_layer_takes_the_same_arguments(path: str) -> None:
    assert _arguments(_class(path).forward) == _arguments(encoder_compat.LAYERS[path]), (
        f"transformers {transformers.__version__}: {path} isn't as in {encoder_compat.WRITTEN_FOR}; "
        "see models/encoder_compat.py"
    )


@pytest.mark.parametrize("path", sorted(encoder_compat.HEADS))
def test_a_head_is_a_model_with_a_backbone_of_its_own(path: str) -> None:
    kind = _class(path)
    assert kind.base_model_prefix
    assert path.rpartition(".")[0] in {layer.rpartition(".")[0] for layer in encoder_compat.LAYERS}
