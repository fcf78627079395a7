"""Parallel adapters and Compacter against their papers' equations, whole tensors, on tiny models."""

import copy

import pytest
import torch
from torch import Tensor

from peftbench.methods.bottleneck import BottleneckLinear
from peftbench.methods.compacter import CompacterConfig, CompacterLinear
from peftbench.methods.parallel import ParallelLinear
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of

MODELS = [
    "tiny_bert",
    pytest.param("tiny_gpt2", marks=pytest.mark.slow),
    pytest.param("tiny_t5", marks=pytest.mark.slow),
]


def seen(case: Built, modules: dict[str, torch.nn.Module]) -> dict[str, tuple[Tensor, Tensor]]:
    """Each module's first input and its output, in one run of the model."""
    found = {}
    handles = [
        module.register_forward_hook(lambda m, x, y, name=name: found.update({name: (x[0], y)}))
        for name, module in modules.items()
    ]
    case.logits()
    for handle in handles:
        handle.remove()
    return found


def bottleneck(x: Tensor, down, up) -> Tensor:
    return torch.relu(x @ down.weight.T + down.bias) @ up.weight.T + up.bias


@pytest.mark.parametrize("model", MODELS)
def test_parallel_adds_to_the_block_what_it_makes_of_the_blocks_input(cell, model: str) -> None:
    case = Built(cell("method=parallel", f"model={model}"))
    shake(case.model, seed=0)
    layers = layers_of(case, ParallelLinear)
    firsts = {name: layer.tap.module for name, layer in layers.items()}
    blocks = {name: layer.base_layer for name, layer in layers.items()}
    inputs, wholes, plain = seen(case, firsts), seen(case, layers), seen(case, blocks)
    assert len(layers) == (4 if model == "tiny_t5" else 2)
    for name, layer in layers.items():
        down, _, up = layer.parts("default")
        expected = plain[name][1] + 4.0 * bottleneck(inputs[name][0], down, up)
        torch.testing.assert_close(wholes[name][1], expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(wholes[name][1], plain[name][1], atol=1e-3)


def test_a_copy_of_the_model_reads_its_own_block(cell) -> None:
    case = Built(cell("method=parallel"))
    shake(case.model, seed=0)
    expected, copied = case.logits(), copy.deepcopy(case.model)
    assert torch.equal(case.logits(copied), expected)
    ours, theirs = ([m for m in x.modules() if isinstance(m, ParallelLinear)] for x in (case.model, copied))
    assert not {id(m.tap.module) for m in ours} & {id(m.tap.module) for m in theirs}


def test_pfeiffer_is_one_bottleneck_a_layer_behind_the_feed_forward_block(cell) -> None:
    case = Built(cell("method=pfeiffer"))
    assert [n.split(".", 3)[3] for n in layers_of(case, BottleneckLinear)] == ["0.output.dense", "1.output.dense"]


def test_compacter_is_a_sum_of_kronecker_products(cell) -> None:
    case = Built(cell("method=compacter", "method.adapter.rank=2"))
    shake(case.model, seed=0, scale=0.3)
    layers = layers_of(case, CompacterLinear)
    assert len({id(layer.compacter_rule["default"]) for layer in layers.values()}) == 1
    rule = next(iter(layers.values())).compacter_rule["default"]
    for layer in layers.values():
        weights = {}
        for way in ("down", "up"):
            left, right = (getattr(layer, f"compacter_{way}_{part}")["default"] for part in ("left", "right"))
            weights[way] = sum(torch.kron(rule[i], left[i] @ right[i]) for i in range(4))
        h = layer.base_layer(x := torch.randn(2, 5, layer.base_layer.in_features))
        z = torch.nn.functional.gelu(h @ weights["down"] + layer.compacter_down_bias["default"], approximate="tanh")
        expected = h + z @ weights["up"] + layer.compacter_up_bias["default"]
        torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)
        assert (layer(x) - h).abs().max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"division": 0}, "division must be an integer above 0, not 0"),
        ({"rank": True}, "rank must be an integer above 0"),
        ({"division": 5}, "bottleneck_size must be a multiple of division=5"),
    ],
)
def test_compacter_refuses(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompacterConfig(**arguments)
