"""What is measured as deployed answers as the trained model does, without the parts that only training needs."""

import pytest
import torch

from tests.helpers.built import Built, shake
from tests.helpers.composed import written

#: By method, whether a network makes its virtual tokens while they are trained.
MADE = {"prefix": True, "p_tuning": True, "p_tuning_v2": False, "prompt": False, "cartridge": False, "cpt": True}


FAMILIES = {"tiny_bert": "encoder", "tiny_llama": "decoder"}


CASES = [(name, model) for name in MADE for model in FAMILIES if FAMILIES[model] in written("method")[name]["supports"]]


@pytest.mark.parametrize(("method", "model"), CASES)
def test_virtual_tokens_are_kept_without_what_makes_them(cell, named, method: str, model: str) -> None:
    case = Built(cell(*named(method, model)))
    shake(case.model, seed=0)
    expected, weights = case.logits(), _prompt_weights(case)
    called: list[str] = []
    network = case.model.prompt_encoder["default"]
    network.register_forward_hook(lambda *_: called.append("network"))
    with case.method.deployed(case.model):
        torch.testing.assert_close(case.logits(), expected, atol=1e-5, rtol=1e-5)
        assert (_prompt_weights(case) < weights) is MADE[method]
        assert called == ["network"], "once for all calls"
    assert case.model.prompt_encoder["default"] is network
    before = {name: tensor.clone() for name, tensor in network.named_parameters() if tensor.requires_grad}
    case.train(1)
    assert before
    assert all(not torch.equal(tensor, before[n]) for n, tensor in network.named_parameters() if n in before)


def _prompt_weights(case: Built) -> int:
    return sum(tensor.numel() for tensor in case.model.prompt_encoder.parameters())


def test_without_virtual_tokens_nothing_changes(cell) -> None:
    case = Built(cell("method=lora"))
    before = list(case.model.modules())
    with case.method.deployed(case.model):
        assert list(case.model.modules()) == before
