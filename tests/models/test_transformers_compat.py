"""What we use of transformers beside its documented interface is still as it was."""

import inspect

import pytest
import transformers
from transformers import AttentionInterface

from peftbench.models import transformers_compat

#: The arguments of each function, in the order in which they are given.
ARGUMENTS = {
    "create_position_bias_mask": ["position_bias", "attention_mask", "is_causal", "query", "key"],
    "repeat_kv": ["hidden_states", "n_rep"],
    "sdpa_attention_forward": [
        *("module", "query", "key", "value", "attention_mask", "dropout", "scaling", "is_causal", "position_bias"),
        *("cache", "kwargs"),
    ],
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_its_functions_take_the_same_arguments(name: str) -> None:
    assert list(inspect.signature(getattr(transformers_compat, name)).parameters) == ARGUMENTS[name], (
        f"transformers {transformers.__version__}: {name} isn't as in {transformers_compat.WRITTEN_FOR}; "
        "see models/transformers_compat.py and models/dropout.py"
    )


def test_another_attention_is_the_one_that_models_call() -> None:
    before = AttentionInterface()["sdpa"]

    def ours() -> None:
        raise NotImplementedError

    transformers_compat.replace_sdpa(ours)
    try:
        assert AttentionInterface()["sdpa"] is ours
    finally:
        transformers_compat.replace_sdpa(before)
