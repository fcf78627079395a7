"""BitFit's tuner: it trains as the biases themselves would, its equation, merging, and heads and ties."""

import pytest
import torch
from peft import get_peft_model
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertForSequenceClassification,
)

from peftbench.methods.bitfit import BitFitConfig, BitFitLayer
from tests.helpers.tuner_families import (
    DISTILBERT,
    ENCODER,
    FAMILIES,
    INNER,
    LAYERS,
    H,
    adapted,
    affine,
    base,
    config,
    every_bitfit,
    layers,
    logits,
    norm,
    randomise,
    train,
    trainable,
)

# peft uses names that transformers has replaced by "activation checkpointing"


@every_bitfit
def test_bitfit_trains_as_the_biases_themselves_would(name: str) -> None:
    # In float64: the keys' biases have no gradient but rounding noise, which Adam would scale up.
    plain, wrapped = base(name).double(), adapted("bitfit", name).double()
    for key, tensor in plain.named_parameters():
        tensor.requires_grad_(key.endswith(".bias") or key.startswith("classifier."))
    train(plain, name)
    merged = train(wrapped, name).merge_and_unload().state_dict()
    start = base(name).double().state_dict()
    assert merged.keys() == start.keys()
    for key, tensor in plain.state_dict().items():
        torch.testing.assert_close(merged[key], tensor, atol=1e-6, rtol=0)
    assert sum(not torch.equal(merged[key], start[key]) for key in start) == sum(
        tensor.requires_grad for tensor in plain.parameters()
    )


@every_bitfit
def test_bitfit_starts_as_the_base_model(name: str) -> None:
    assert torch.equal(logits(adapted("bitfit", name), name), logits(base(name), name))


@pytest.mark.parametrize(
    ("name", "path", "width"),
    [
        ("bert", "bert.encoder.layer.1.output.dense", INNER),
        ("bert", "bert.encoder.layer.1.output.LayerNorm", H),
        ("gpt2", "transformer.h.1.attn.c_attn", H),
        ("gpt2", "transformer.ln_f", H),
    ],
)
def test_bitfit_equation(name: str, path: str, width: int) -> None:
    model = adapted("bitfit", name)
    randomise(model)
    layer = model.get_base_model().get_submodule(path)
    plain, x = layer.base_layer, torch.randn(3, 5, width)
    if isinstance(plain, nn.LayerNorm):
        expected = norm(x, plain.weight, plain.bias, plain.eps)
    else:
        expected = affine(plain, x)
    delta = layer.get_delta("default")
    assert delta.abs().max() > 0.1
    torch.testing.assert_close(layer(x), expected + delta, atol=1e-6, rtol=1e-6)


def test_a_second_adapter_may_have_other_targets() -> None:
    model = adapted("bitfit", "bert", target_modules=["query"])
    randomise(model)
    first = logits(model, "bert")
    model.add_adapter("second", config("bitfit", "bert"))
    assert torch.equal(logits(model, "bert"), first)
    model.set_adapter("second")
    n_biases = FAMILIES["bert"].n_biases
    assert sum(n for key, n in trainable(model).items() if "bitfit" in key) == n_biases


@every_bitfit
def test_bitfit_merges_and_unmerges(name: str) -> None:
    model = train(adapted("bitfit", name), name)
    expected = logits(model, name)
    model.merge_adapter(safe_merge=True)
    merged = [layer.base_layer.bias.clone() for layer in layers(model, BitFitLayer).values()]
    torch.testing.assert_close(logits(model, name), expected, atol=1e-6, rtol=0)
    model.unmerge_adapter()
    assert torch.equal(logits(model, name), expected)
    plain = base(name)
    for (path, layer), bias in zip(layers(model, BitFitLayer).items(), merged, strict=True):
        start = plain.get_submodule(path.removeprefix("base_model.model.")).bias
        assert torch.equal(layer.base_layer.bias, start)
        assert torch.equal(bias, start + layer.get_delta("default"))


@every_bitfit
def test_bitfit_disabled_while_merged_is_the_base_model(name: str) -> None:
    model = train(adapted("bitfit", name, modules_to_save=None), name)
    model.merge_adapter()
    with model.disable_adapter():
        assert torch.equal(logits(model, name), logits(base(name), name))


def test_bitfit_merges_two_adapters_and_refuses_nan() -> None:
    model = adapted("bitfit", "bert")
    model.add_adapter("second", config("bitfit", "bert"))
    layer = next(iter(layers(model, BitFitLayer).values()))
    start = layer.base_layer.bias.clone()
    with torch.no_grad():
        layer.get_delta("default").fill_(0.5)
        layer.get_delta("second").fill_(0.25)
    layer.merge(adapter_names=["default", "second"])
    assert torch.equal(layer.base_layer.bias, start + 0.5 + 0.25)
    layer.unmerge()
    with torch.no_grad():
        layer.get_delta("second").fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        layer.merge(safe_merge=True, adapter_names=["second"])
    assert torch.equal(layer.base_layer.bias, start)
    assert not layer.merged


def test_bitfit_merges_into_a_tied_bias() -> None:
    model = get_peft_model(BertForMaskedLM(BertConfig(**ENCODER)), BitFitConfig())
    randomise(model)
    head = model.merge_and_unload().cls.predictions
    assert head.bias.any()
    assert head.bias is head.decoder.bias


def test_bitfit_leaves_a_head_alone_that_peft_finds_by_its_ending() -> None:
    model = DistilBertForSequenceClassification(DISTILBERT)
    model = get_peft_model(model, BitFitConfig(task_type="SEQ_CLS"))
    assert {"pre_classifier", "classifier"} == {key.rpartition(".")[2] for key in layers(model, ModulesToSaveWrapper)}
    biases = sum(n for key, n in trainable(model).items() if "bitfit" in key)
    assert biases == H + LAYERS * (7 * H + INNER)
