"""MAM and UniPELT: prefixes in attention, gates, against the equations in plain tensor code."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftbench.methods.tuners.prefix_attention import PrefixLinear, attend
from peftbench.methods.unipelt import GatedAttentionLinear, GatedFeedForwardLinear
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of


class Attention(nn.Module):
    """What `attend` is called with: no more of an attention layer than it looks at."""

    def __init__(self, causal: bool, groups: int) -> None:
        super().__init__()
        self.is_causal, self.num_key_value_groups = causal, groups
        self.query = PrefixLinear(nn.Linear(8, 8), (4 // groups, 2))
        for name, length in (("a", 3), ("b", 1)):
            for part in (self.query.hybrid_key, self.query.hybrid_value):
                part[name] = nn.Parameter(torch.randn(4 // groups, length, 2))
        self.query._active_adapter = ["a", "b"]


@pytest.mark.parametrize("mask", ["none", "padding", "float"])
@pytest.mark.parametrize(("causal", "groups"), [(False, 1), (True, 1), (True, 2)])
def test_attention_over_prefix_and_text(mask: str, causal: bool, groups: int) -> None:
    torch.manual_seed(0)
    module = Attention(causal, groups)
    q, k, v = torch.randn(2, 4, 5, 2), torch.randn(2, 4 // groups, 5, 2), torch.randn(2, 4 // groups, 5, 2)
    visible = torch.ones(5, 5).tril().bool() if causal else torch.ones(5, 5).bool()
    visible = visible.expand(2, 1, 5, 5).clone()
    given = None
    if mask != "none":
        visible[1, :, :, 4] = False
        given = visible if mask == "padding" else torch.zeros(2, 1, 5, 5).masked_fill(~visible, -torch.inf)
    bias = torch.randn(1, 4, 5, 5)
    out, _ = attend("sdpa", module, q, k, v, given, scaling=0.7, position_bias=bias)
    # softmax over [prefix; text], each head of keys serving `groups` heads of queries
    pk, pv = (torch.cat([p["a"], p["b"]], dim=1) for p in (module.query.hybrid_key, module.query.hybrid_value))
    keys = torch.cat([pk.expand(2, -1, -1, -1), k], dim=2).repeat_interleave(groups, dim=1)
    values = torch.cat([pv.expand(2, -1, -1, -1), v], dim=2).repeat_interleave(groups, dim=1)
    scores = 0.7 * q @ keys.transpose(-1, -2) + F.pad(bias, (4, 0))
    scores = scores.masked_fill(~F.pad(visible, (4, 0), value=True), -torch.inf)
    expected = (scores.softmax(-1) @ values).transpose(1, 2)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_mam_on_bert_attends_to_its_prefix(cell) -> None:
    case = Built(cell("method=mam"))
    shake(case.model, seed=0, scale=0.3)
    attention = case.model.get_base_model().bert.encoder.layer[1].attention.self
    x = torch.randn(2, 6, 64)
    holder = attention.query
    q, k, v = (
        layer(x).view(2, 6, 4, 16).transpose(1, 2) for layer in (holder.base_layer, attention.key, attention.value)
    )
    k, v = (
        torch.cat([p["default"].expand(2, -1, -1, -1), t], dim=2)
        for p, t in ((holder.hybrid_key, k), (holder.hybrid_value, v))
    )
    expected = ((q @ k.transpose(-1, -2) / math.sqrt(16)).softmax(-1) @ v).transpose(1, 2).reshape(2, 6, 64)
    torch.testing.assert_close(attention(x)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_t5", "tiny_bart"])
def test_mam_generates_the_same_with_and_without_a_cache(cell, model: str) -> None:
    case = Built(cell("method=mam", f"model={model}", "formulation=verbaliser"))
    shake(case.model, seed=0, scale=0.3)
    inputs = {k: case.batch[k][:1] for k in ("input_ids", "attention_mask")}
    inputs = {k: v[:, : int(inputs["attention_mask"].sum())] for k, v in inputs.items()}
    with torch.no_grad():
        cached, plain = (
            case.model.eval().generate(**inputs, max_new_tokens=8, do_sample=False, use_cache=cache, eos_token_id=None)
            for cache in (True, False)
        )
    assert torch.equal(cached, plain)


def test_eager_attention_gives_the_same(cell) -> None:
    case = Built(cell("method=mam"))
    shake(case.model, seed=0, scale=0.3)
    expected, config = case.logits(), case.model.get_base_model().config
    config._attn_implementation = "eager"
    from peftbench.methods.tuners import prefix_attention

    prefix_attention.install(case.model.get_base_model())
    assert config._attn_implementation == "prefixed_eager"
    torch.testing.assert_close(case.logits(), expected, atol=1e-5, rtol=1e-5)


def mean_gate(linear: nn.Linear, x: Tensor, mask: Tensor) -> Tensor:
    """By example, over its real tokens."""
    opened = [
        torch.sigmoid(row[m.bool()] @ linear.weight.T + linear.bias).mean() for row, m in zip(x, mask, strict=True)
    ]
    return torch.stack(opened)[:, None, None]


def test_unipelt_equations(cell) -> None:
    case = Built(cell("method=unipelt"))
    shake(case.model, seed=0, scale=0.2)
    mask = torch.ones(2, 6)
    mask[1, 4:] = 0
    case.model.base_model.reading.mask = mask
    x = torch.randn(2, 6, 64)
    kinds = {n.rsplit(".", 1)[1]: layer for n, layer in layers_of(case, GatedAttentionLinear).items()}
    assert set(kinds) == {"query", "value"}
    for layer in kinds.values():
        a, b = layer.hybrid_lora_a["default"].weight, layer.hybrid_lora_b["default"].weight
        gate = mean_gate(layer.hybrid_gate_lora["default"], x, mask)
        torch.testing.assert_close(layer(x), layer.base_layer(x) + gate * 16 / 8 * (x @ a.T @ b.T))
    query = kinds["query"]
    gate = mean_gate(query.hybrid_gate_prefix["default"], x, mask)[..., None]
    assert torch.allclose(query.prefix("key")[0], gate * query.hybrid_key["default"])
    assert torch.allclose(query.prefix("value")[0], gate * query.hybrid_value["default"])
    assert not kinds["value"].prefix("key")
    forward = next(iter(layers_of(case, GatedFeedForwardLinear).values()))
    inner = torch.randn(2, 6, 128)
    forward.tap.module.tapped_input = x
    down, _, up = forward.parts("default")
    h = forward.base_layer(inner)
    gate = mean_gate(forward.hybrid_gate["default"], x, mask)
    expected = h + gate * (torch.relu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias)
    torch.testing.assert_close(forward(inner), expected, atol=1e-5, rtol=1e-5)
