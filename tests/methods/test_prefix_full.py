"""Prefixes in every attention layer: where they are, what makes them, what is kept."""

import re
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from peftbench.methods.prefix_full import MadePrefixLinear, PrefixFullConfig
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of

#: By model, the kinds of attention that have prefixes.
KINDS = {
    "tiny_bart": {"encoder.layers.#.self_attn", "decoder.layers.#.self_attn", "decoder.layers.#.encoder_attn"},
    "tiny_t5": {
        "encoder.block.#.layer.#.SelfAttention",
        "decoder.block.#.layer.#.SelfAttention",
        "decoder.block.#.layer.#.EncDecAttention",
    },
    "tiny_llama": {"layers.#.self_attn"},
    "tiny_bert": {"encoder.layer.#.attention.self"},
}


@pytest.mark.parametrize("model", list(KINDS))
def test_each_kind_of_attention_has_prefixes_and_one_embedding(cell, model: str) -> None:
    case = Built(cell("method=prefix_full", f"model={model}", "method.adapter.prefix_length=3"))
    layers = layers_of(case, MadePrefixLinear)
    kinds = {name: re.sub(r"\d+", "#", name.rpartition(".")[0]) for name in layers}
    assert len(set(kinds.values())) == len(KINDS[model])
    assert all(any(kind.endswith(end) for end in KINDS[model]) for kind in kinds.values())
    firsts = [kinds[name] for name, layer in layers.items() if "default" in layer.hybrid_embedding]
    assert sorted(firsts) == sorted(set(kinds.values()))
    assert len(layers) > len(firsts), "two layers of a kind"


def test_an_mlp_makes_the_prefix(cell) -> None:
    case = Built(cell("method=prefix_full", "model=tiny_bart"))
    for layer in layers_of(case, MadePrefixLinear).values():
        (first,) = layer._shared or (layer,)
        embedding, inner = first.hybrid_embedding["default"], first.hybrid_inner["default"]
        hidden = torch.tanh(embedding @ inner.weight.T + inner.bias)
        for part, outer in (("key", layer.hybrid_outer_key), ("value", layer.hybrid_outer_value)):
            rows = hidden @ outer["default"].weight.T + outer["default"].bias
            (made,) = layer.prefix(part)
            assert made.shape == (1, layer.heads, 20, layer.width)
            for token in range(20):
                torch.testing.assert_close(made[0, :, token].flatten(), rows[token], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("model", ["tiny_bart", "tiny_t5"])
def test_each_of_the_three_places_decides_the_answer(cell, model: str) -> None:
    case = Built(cell("method=prefix_full", f"model={model}"))
    expected, kinds = case.logits(), set()
    for name, layer in layers_of(case, MadePrefixLinear).items():
        kind = re.sub(r"\d+", "#", name)
        if kind not in kinds:
            bias = layer.hybrid_outer_value["default"].bias.data
            bias += 1
            assert not torch.allclose(case.logits(), expected, atol=1e-5), name
            bias -= 1
        kinds.add(kind)
    assert len(kinds) == 3


@pytest.mark.parametrize("model", ["tiny_bart", "tiny_t5", "tiny_llama"])
def test_keys_and_values_are_what_is_saved(cell, model: str, tmp_path: Path) -> None:
    case = Built(cell("method=prefix_full", f"model={model}", "formulation=verbaliser"))
    shake(case.model, seed=0)
    expected, trained = case.logits(), {n for n, p in case.model.named_parameters() if p.requires_grad}
    case.method.save(case.model, tmp_path)
    assert {n for n, p in case.model.named_parameters() if p.requires_grad} == trained
    assert torch.equal(case.logits(), expected)
    layers = layers_of(case, MadePrefixLinear).values()
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert {name.rpartition(".")[2] for name in saved} == {"hybrid_key", "hybrid_value"}
    assert sum(tensor.numel() for tensor in saved.values()) == sum(2 * 20 * x.heads * x.width for x in layers)
    for trainable in (False, True):
        loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path, is_trainable=trainable)
        assert torch.equal(case.logits(loaded), expected)
        assert any(p.requires_grad for p in loaded.parameters()) is trainable


def test_deployed_there_is_no_mlp_and_training_goes_on_after_it(cell) -> None:
    case = Built(cell("method=prefix_full", "model=tiny_t5"))
    expected = case.logits()
    with case.method.deployed(case.model):
        assert not [name for name, _ in case.model.named_parameters() if "hybrid_outer" in name]
        assert torch.equal(case.logits(), expected)
    before = {name: p.detach().clone() for name, p in case.model.named_parameters() if "hybrid_" in name}
    case.train(1)
    assert before
    assert all(not torch.equal(p, before[name]) for name, p in case.model.named_parameters() if name in before)


def test_sizes_below_one_are_refused() -> None:
    for name in ("prefix_length", "projection_size"):
        with pytest.raises(ValueError, match=f"{name} must be an integer above 0, not 0"):
            PrefixFullConfig(**{name: 0})
