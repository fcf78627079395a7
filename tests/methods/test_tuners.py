"""What BitFit, Houlsby's bottleneck and head only have in common: counts, training, saving, switching, precision."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper

from tests.helpers.tuner_families import (
    CASES,
    FAMILIES,
    RANK,
    H,
    adapted,
    base,
    batch,
    config,
    every_case,
    layers,
    logits,
    train,
    trainable,
)

# peft uses names that transformers has replaced by "activation checkpointing"


@every_case
def test_trainable_count_is_the_closed_form(method: str, name: str) -> None:
    family = FAMILIES[name]
    adapter = {
        "bitfit": family.n_biases,
        "houlsby": family.n_sublayers * (2 * H * RANK + RANK + H),
        "head_only": 0,
    }[method]
    assert sum(trainable(adapted(method, name)).values()) == adapter + family.n_head


@every_case
def test_training_moves_every_adapted_layer_and_nothing_else(method: str, name: str) -> None:
    model = adapted(method, name)
    before = {n: t.clone() for n, t in model.named_parameters()}
    train(model, name)
    moved = {n for n, t in model.named_parameters() if not torch.equal(t, before[n])}
    assert moved == set(trainable(model))
    assert moved
    wrapped = layers(model, (BaseTunerLayer, ModulesToSaveWrapper))
    assert wrapped
    assert all(any(n.startswith(f"{layer}.") for n in moved) for layer in wrapped)


@every_case
def test_a_saved_adapter_gives_the_same_logits(method: str, name: str, tmp_path: Path) -> None:
    model = train(adapted(method, name), name)
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base(name), tmp_path)
    assert torch.equal(logits(loaded, name), logits(model, name))
    assert not torch.equal(logits(loaded, name), logits(base(name), name))
    assert not trainable(loaded)
    resumed = PeftModel.from_pretrained(base(name), tmp_path, is_trainable=True)
    assert trainable(resumed) == trainable(model)


@every_case
def test_two_adapters_are_switched(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected, n_layers = {"default": logits(model, name)}, len(layers(model, BaseTunerLayer))
    names = set(trainable(model))
    model.add_adapter("second", config(method, name))
    assert len(layers(model, BaseTunerLayer)) == n_layers
    assert set(trainable(model)) == names
    assert torch.equal(logits(model, name), expected["default"])
    model.set_adapter("second")
    assert set(trainable(model)) == {key.replace(".default", ".second") for key in names}
    expected["second"] = logits(train(model, name, lr=1e-3), name)
    assert not torch.equal(expected["second"], expected["default"])
    for adapter in ("default", "second"):
        model.set_adapter(adapter)
        assert torch.equal(logits(model, name), expected[adapter])


@pytest.mark.parametrize("method", ["bitfit", "houlsby", "head_only"])
def test_one_of_two_adapters_is_saved_and_loaded_beside_another(method: str, tmp_path: Path) -> None:
    expected = {}
    for adapter, lr in {"small": 1e-3, "large": 3e-2}.items():
        model = adapted(method, "bert")
        model.add_adapter("second", config(method, "bert"))
        model.set_adapter("second")
        expected[adapter] = logits(train(model, "bert", lr=lr), "bert")
        model.save_pretrained(tmp_path / adapter, selected_adapters=["second"])
    both = PeftModel.from_pretrained(base("bert"), tmp_path / "small" / "second", adapter_name="small")
    both.load_adapter(tmp_path / "large" / "second", adapter_name="large")
    for adapter in ("small", "large", "small"):
        both.set_adapter(adapter)
        assert torch.equal(logits(both, "bert"), expected[adapter])
    assert not torch.equal(expected["small"], expected["large"])


@pytest.mark.parametrize("name", ["roberta", "gpt2"])
@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_all_linear_twice(method: str, name: str, tmp_path: Path) -> None:
    model = adapted(method, name, target_modules="all-linear")
    n_layers = len(layers(model, BaseTunerLayer))
    model.add_adapter("second", config(method, name, target_modules="all-linear"))
    assert len(layers(model, BaseTunerLayer)) == n_layers
    model.save_pretrained(tmp_path)
    for folder in (tmp_path, tmp_path / "second"):
        loaded = PeftModel.from_pretrained(base(name), folder)
        assert layers(loaded, BaseTunerLayer).keys() == layers(model, BaseTunerLayer).keys()


@every_case
def test_a_disabled_adapter_leaves_the_base_model(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected = logits(model, name)
    with model.disable_adapter():
        assert torch.equal(logits(model, name), logits(base(name), name))
    assert torch.equal(logits(model, name), expected)


@pytest.mark.parametrize(("method", "name"), [case for case in CASES if case[0] in ("bitfit", "head_only")])
def test_merge_and_unload_gives_a_plain_model(method: str, name: str) -> None:
    model = train(adapted(method, name), name)
    expected = logits(model, name)
    plain = model.merge_and_unload()
    assert type(plain) is type(base(name))
    assert plain.state_dict().keys() == base(name).state_dict().keys()
    torch.testing.assert_close(logits(plain, name), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("low_memory", [False, True])
@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_bfloat16_base(method: str, low_memory: bool, tmp_path: Path) -> None:
    model = get_peft_model(base("bert").bfloat16(), config(method, "bert"))
    own = [t for key, t in model.named_parameters() if t.requires_grad and "classifier" not in key]
    assert {tensor.dtype for tensor in own} == {torch.float32}
    train(model, "bert")
    assert logits(model, "bert").dtype == torch.bfloat16
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert").bfloat16(), tmp_path, low_cpu_mem_usage=low_memory)
    assert not trainable(loaded)
    torch.testing.assert_close(logits(loaded, "bert"), logits(model, "bert"), atol=3e-2, rtol=0)


@pytest.mark.parametrize("method", ["bitfit", "houlsby"])
def test_gradient_checkpointing_changes_no_gradient(method: str) -> None:
    plain, model = adapted(method, "bert"), adapted(method, "bert")
    model.load_state_dict(plain.state_dict())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    plain.train()(**batch("bert")).loss.backward()
    model.train()(**batch("bert")).loss.backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.requires_grad:
            torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-7, rtol=1e-5)
