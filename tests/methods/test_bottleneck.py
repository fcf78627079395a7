"""Houlsby's bottleneck adapter: near the identity at the start, its equation, and what it can be configured to."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftbench.methods.bottleneck import BottleneckConfig, BottleneckLinear
from tests.helpers.tuner_families import (
    FAMILIES,
    LAYERS,
    RANK,
    H,
    adapted,
    affine,
    base,
    layers,
    logits,
    norm,
    randomise,
    train,
    trainable,
)

# peft uses names that transformers has replaced by "activation checkpointing"


def gelu(z: Tensor) -> Tensor:
    return z * 0.5 * (1 + torch.erf(z / 2**0.5))


def houlsby(layer: BottleneckLinear, h: Tensor, scaling: float) -> Tensor:
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    return h + scaling * (gelu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias)


@pytest.mark.parametrize("name", FAMILIES)
def test_houlsby_starts_near_the_identity(name: str) -> None:
    model, std = adapted("houlsby", name), 0.01
    assert len(layers(model, BottleneckLinear)) == FAMILIES[name].n_sublayers
    for layer in layers(model, BottleneckLinear).values():
        h = torch.randn(5, H)
        change = layer._bottleneck("default", h).abs()
        # |W| <= 2 std everywhere and |gelu(z)| <= |z|
        bound = RANK * (2 * std) ** 2 * h.abs().sum(-1, keepdim=True)
        assert (change <= bound).all()
        assert change.max() > 1e-3 * bound.max()
        for projection in (layer.bottleneck_down["default"], layer.bottleneck_up["default"]):
            assert 0.7 * std < projection.weight.std() < 1.1 * std
            assert projection.weight.abs().max() <= 2 * std
            assert not projection.bias.any()
    assert not torch.equal(logits(model, name), logits(base(name), name))
    torch.testing.assert_close(logits(model, name), logits(base(name), name), atol=1e-2, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_houlsby_is_the_identity_when_the_up_projection_is_zero(name: str) -> None:
    model = adapted("houlsby", name)
    for layer in layers(model, BottleneckLinear).values():
        nn.init.zeros_(layer.bottleneck_up["default"].weight)
    assert torch.equal(logits(model, name), logits(base(name), name))


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("scaling", [1.0, 0.5])
def test_houlsby_equation(name: str, scaling: float) -> None:
    model = adapted("houlsby", name, scaling=scaling)
    randomise(model)
    for layer in layers(model, BottleneckLinear).values():
        plain = layer.base_layer
        x = torch.randn(3, 5, plain.nx if isinstance(plain, Conv1D) else plain.in_features)
        h = x @ plain.weight.T if plain.bias is None else affine(plain, x)
        torch.testing.assert_close(layer(x), houlsby(layer, h, scaling), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("where", ["attention.output", "output"])
def test_houlsby_acts_before_residual_and_layer_norm(where: str) -> None:
    model = adapted("houlsby", "bert")
    randomise(model)
    block = model.get_base_model().bert.encoder.layer[0].get_submodule(where)
    x, residual = torch.randn(2, 5, block.dense.base_layer.in_features), torch.randn(2, 5, H)
    y = houlsby(block.dense, affine(block.dense.base_layer, x), 1.0)
    ln = block.LayerNorm
    expected = norm(y + residual, ln.weight, ln.bias, ln.eps)
    torch.testing.assert_close(block(x, residual), expected, atol=2e-6, rtol=1e-5)


def test_houlsby_cannot_be_merged_but_unloaded() -> None:
    model = train(adapted("houlsby", "bert"), "bert")
    expected = logits(model, "bert")
    for attempt in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(NotImplementedError, match="can't be merged"):
            attempt()
    with pytest.raises(NotImplementedError, match="can't be merged"):
        next(iter(layers(model, BottleneckLinear).values())).merge()
    assert torch.equal(logits(model, "bert"), expected)
    assert not layers(model.unload(), BaseTunerLayer)


def test_houlsby_with_trained_layer_norms(tmp_path: Path) -> None:
    norms = ["attention.output.LayerNorm", "output.LayerNorm"]
    model = adapted("houlsby", "bert", modules_to_save=norms)
    usual = sum(trainable(adapted("houlsby", "bert")).values())
    assert sum(trainable(model).values()) == usual + LAYERS * 2 * 2 * H
    train(model, "bert").save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert"), tmp_path)
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_houlsby_trains_the_weights_of_an_activation(tmp_path: Path) -> None:
    model = adapted("houlsby", "bert", non_linearity="prelu")
    usual = sum(trainable(adapted("houlsby", "bert")).values())
    assert sum(trainable(model).values()) == usual + 2 * LAYERS
    train(model, "bert").save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(base("bert"), tmp_path)
    assert not trainable(loaded)
    assert torch.equal(logits(loaded, "bert"), logits(model, "bert"))


def test_houlsby_targets_by_regular_expression() -> None:
    model = adapted("houlsby", "bert", target_modules=r".*layer\.\d+\.output\.dense")
    assert len(layers(model, BottleneckLinear)) == LAYERS
    assert not any("attention" in key for key in layers(model, BottleneckLinear))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("bottleneck_size", [0, -1, 2.5, "8", True, None]),
        ("non_linearity", ["gelou", "", None]),
        ("init_std", [0, -0.1, float("nan"), float("inf"), "0.1"]),
        ("scaling", [0.0, float("nan"), float("inf"), "1"]),
    ],
)
def test_refused_bottleneck_values(field: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=f"^{field} must be [^\n]* not {value!r}$"):
            BottleneckConfig(**{field: value})
