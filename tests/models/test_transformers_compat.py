"""What we use of transformers beside its documented interface is still as it was."""

import inspect
from typing import Any

import pytest
import torch
import transformers
from transformers import AttentionInterface, BertConfig, BertModel

from peftbench.models import transformers_compat

CHANGED = (
    f"transformers {transformers.__version__} isn't as {transformers_compat.WRITTEN_FOR} was; "
    "see models/transformers_compat.py and methods/tuners/prefix_attention.py"
)

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


def test_layers_look_their_attention_up_by_the_name_that_is_set() -> None:
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    model = BertModel(BertConfig(vocab_size=10, attn_implementation="eager", **sizes)).eval()
    assert transformers_compat.attention_name(model.config) == "eager", CHANGED
    assert transformers_compat.attention_name(None) is None

    class OursCalledError(Exception):
        """Raised where a layer calls our attention."""

    def ours(*arguments: Any, **named: Any) -> None:
        raise OursCalledError

    AttentionInterface.register("ours", ours)
    transformers_compat.name_attention(model.config, "ours")
    with pytest.raises(OursCalledError):
        model(torch.tensor([[1, 2]]), attention_mask=torch.ones(1, 1, 2, 2))
