"""What peft promises of every tuner, for our own: several adapters on one base, switched, switched off, saved apart."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from peftbench.errors import NotApplicable
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import add_second, own_methods

OWN = own_methods()
FAMILIES = ["tiny_bert", "tiny_gpt2", "tiny_llama", "tiny_t5"]
CASES = [
    pytest.param(
        method,
        model,
        id=f"{method}-{model}",
        marks=[] if model == "tiny_bert" else [pytest.mark.slow, pytest.mark.matrix],
    )
    for model in FAMILIES
    for method in OWN
]


@pytest.fixture
def adapted(cell, named) -> Callable[[str, str], Built]:
    def make(method: str, model: str) -> Built:
        try:
            case = Built(cell(*named(method, model)))
        except NotApplicable as reason:
            pytest.skip(str(reason))
        shake(case.model, seed=0)
        return case

    return make


def test_own_tuners_are_found() -> None:
    assert {"houlsby", "bitfit", "linear_probe"} < set(OWN)


@pytest.mark.parametrize(("method", "model"), CASES)
def test_adapters_are_switched_without_loading_the_base_again(adapted, tmp_path, method: str, model: str) -> None:
    case = adapted(method, model)
    first, base = case.logits(), case.fresh_base()
    trained = {n for n, p in case.model.named_parameters() if p.requires_grad}
    add_second(case.model)
    second = case.logits()
    assert not torch.equal(first, second)
    assert {n for n, p in case.model.named_parameters() if p.requires_grad} == {
        n.replace(".default", ".second") for n in trained
    }
    for name, expected in (("default", first), ("second", second), ("default", first)):
        case.model.set_adapter(name)
        assert torch.equal(case.logits(), expected)
    with case.model.disable_adapter():
        assert torch.equal(case.logits(), case.logits(base))
    assert torch.equal(case.logits(), first)
    case.model.save_pretrained(tmp_path, save_embedding_layers=False)
    # One of two alone, then the other beside it. peft warns of names that are a part of its prefix, such as "a".
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "second", adapter_name="right")
    assert torch.equal(case.logits(loaded), second)
    loaded.load_adapter(tmp_path, adapter_name="left")
    for name, expected in (("left", first), ("right", second)):
        loaded.set_adapter(name)
        assert torch.equal(case.logits(loaded), expected)


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("method", OWN)
def test_a_half_precision_base_keeps_adapters_in_full(cell, tmp_path, method: str) -> None:
    """And what is saved then loads as it was, also with `low_cpu_mem_usage`."""
    found = cell(f"method={method}")
    try:
        case = Built(found)
        case.model = case.method.apply(case.fresh_base().bfloat16(), case.context)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    shake(case.model, seed=0)
    own = {p.dtype for n, p in case.model.named_parameters() if p.requires_grad and "modules_to_save" not in n}
    assert own <= {torch.float32}
    expected = case.logits()
    case.model.save_pretrained(tmp_path, save_embedding_layers=False)
    for low_memory in (False, True):
        loaded = PeftModel.from_pretrained(case.fresh_base().bfloat16(), tmp_path, low_cpu_mem_usage=low_memory)
        # Prefixes that an MLP made and saved ones may round to other halves: a few last digits of logits of about 1.
        torch.testing.assert_close(case.logits(loaded).float(), expected.float(), atol=2**-4, rtol=0)
