"""Finished adapters below another (MAD-X) and beside each other (AdapterFusion), against the papers' equations."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from peftbench.errors import ConfigError
from peftbench.methods.bottleneck import BottleneckLinear
from peftbench.methods.fusion import FusionLinear
from peftbench.methods.stacking import StackedLinear
from peftbench.models import parameters
from peftbench.results.store import ResultStore
from peftbench.run import outputs
from tests.helpers.built import Built, adapter, shake
from tests.helpers.own_tuners import add_second, layers_of

MODELS = ["tiny_bert", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tiny_gpt2", "tiny_t5"))]


@pytest.fixture
def finished(cell, tmp_path) -> Callable[..., Path]:
    """A saved Pfeiffer adapter; overrides change it."""

    def make(name: str, model: str = "tiny_bert", *more: str, method: str = "pfeiffer") -> Path:
        return adapter(cell(f"method={method}", f"model={model}", *more), tmp_path / name, seed=len(name))

    return make


def loaded(case: Built, folder: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    """What a saved adapter adds to its layers' outputs, each layer's by name, by peft's own loading."""
    model = PeftModel.from_pretrained(case.fresh_base(), folder).get_base_model()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, BottleneckLinear)}
    return {n: lambda h, m=m: m.scaling["default"] * m._bottleneck("default", h) for n, m in layers.items()}


def inputs_of(layer: BaseTunerLayer) -> tuple[Tensor, Tensor]:
    """Something to put into an adapted layer, and what the layer alone makes of it."""
    base = layer.base_layer
    x = torch.randn(3, 5, base.nx if hasattr(base, "nx") else base.in_features)
    return x, base(x)


@pytest.mark.parametrize("model", MODELS)
def test_the_upper_adapter_reads_what_the_lower_puts_out(cell, finished, tmp_path, model: str) -> None:
    language = finished("language", model, "method.adapter.bottleneck_size=7", "+method.adapter.scaling=0.5")
    case = Built(cell("method=pfeiffer", f"model={model}", f"+method.inputs.stack_on={language}"))
    below, frozen = loaded(case, language), [p for n, p in case.model.named_parameters() if "below" in n]
    assert not frozen  # Buffers.
    shake(case.model, seed=5)
    for name, layer in layers_of(case, StackedLinear).items():
        x, h = inputs_of(layer)
        down, _, up = layer.parts("default")
        first = h + below[name](h)
        second = first + torch.relu(first @ down.weight.T + down.bias) @ up.weight.T + up.bias
        torch.testing.assert_close(layer(x), second, atol=1e-5, rtol=1e-5)
        summed = first + torch.relu(h @ down.weight.T + down.bias) @ up.weight.T + up.bias
        assert not torch.allclose(layer(x), summed, atol=1e-5)
    expected = case.logits()
    outputs.save(case.method, case.model, tmp_path / "task", keep=True)
    again = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "task")
    assert torch.equal(case.logits(again), expected)
    add_second(case.model)
    case.model.set_adapter("default")
    assert torch.equal(case.logits(), expected)
    with case.model.disable_adapter():
        assert torch.equal(case.logits(), case.logits(case.fresh_base()))


def test_only_the_upper_adapter_is_trained_and_counted(cell, finished) -> None:
    plain = Built(cell("method=pfeiffer"))
    case = Built(cell("method=pfeiffer", f"+method.inputs.stack_on={finished('language')}"))
    counts = [parameters.count(c.model, c.config.model.head)["adapter"] for c in (plain, case)]
    assert counts[0] == counts[1]
    before = {n: b.clone() for n, b in case.model.named_buffers()}
    case.train(3)
    assert all(torch.equal(b, before[n]) for n, b in case.model.named_buffers())


@pytest.mark.parametrize("model", MODELS)
def test_fusion_attends_over_the_adapters_outputs(cell, finished, model: str) -> None:
    sizes = {"first": 7, "second": 3}
    folders = {n: finished(n, model, f"method.adapter.bottleneck_size={r}") for n, r in sizes.items()}
    given = [f"method.inputs.{n}={folder}" for n, folder in folders.items()]
    case = Built(cell("method=adapter_fusion", f"model={model}", *given))
    shake(case.model, seed=5, scale=0.3)
    changes = [loaded(case, folder) for folder in folders.values()]
    total = 0.0
    for name, layer in layers_of(case, FusionLinear).items():
        x, h = inputs_of(layer)
        q, k, v = (part["default"] for part in (layer.fusion_query, layer.fusion_key, layer.fusion_value))
        expected = h.clone()
        for i in range(3):
            for t in range(5):
                z = torch.stack([change[name](h[i, t]) for change in changes])  # (2, d)
                s = torch.softmax((z @ k) @ (h[i, t] @ q), dim=0)
                expected[i, t] += s @ (z @ v)
        torch.testing.assert_close(layer(x), expected, atol=1e-4, rtol=1e-4)
        assert (layer(x) - h).abs().max() > 1e-2
        total += ((v - torch.eye(64)) ** 2).sum()
    torch.testing.assert_close(case.method.loss(torch.tensor(1.0), None, {}), 1.0 + 0.01 * total)


def test_fusion_trains_three_matrices_a_layer_and_saves_all(cell, finished, tmp_path) -> None:
    given = [f"method.inputs.{name}={finished(name)}" for name in ("first", "second")]
    case = Built(cell("method=adapter_fusion", *given))
    assert parameters.count(case.model, case.config.model.head)["adapter"] == 2 * 3 * 64**2
    before = {n: b.clone() for n, b in case.model.named_buffers()}
    case.train(3)
    assert all(torch.equal(b, before[n]) for n, b in case.model.named_buffers())
    assert {n for n in before if "fusion_bank" in n}
    expected = case.logits()
    outputs.save(case.method, case.model, tmp_path / "fused", keep=True)
    again = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "fused")
    assert torch.equal(case.logits(again), expected)


def test_adapters_of_finished_runs_are_named_by_their_records(train, cell) -> None:
    files = []
    for seed in (0, 1):
        arguments = ("method=pfeiffer", "recipe.max_steps=2", f"seed={seed}")
        config = cell(*arguments).config
        files.append(ResultStore(config.results_dir).put(config, train(*arguments)))
    given = [f"method.inputs.{name}={file}" for name, file in zip(("first", "second"), files, strict=True)]
    record = train("method=adapter_fusion", *given, "recipe.max_steps=2")
    assert record.status == "completed"
    assert len(set(record.environment["inputs"].values())) == 2
    assert str(files[0]) not in str(record.to_dict())


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("houlsby", "pfeiffer", "method.inputs.second: that adapter is in other modules than the first"),
        ("lora", "pfeiffer", "a LORA adapter; allowed are houlsby's and pfeiffer's"),
        ("gelu", "pfeiffer", "method.inputs.second: that adapter has another non_linearity than the first"),
    ],
)
def test_adapters_that_cannot_be_fused(cell, finished, first: str, second: str, message: str) -> None:
    changed = {"gelu": ("method.adapter.non_linearity=gelu",)}.get(first, ())
    made = {"gelu": "pfeiffer"}.get(first, first)
    folders = [finished("a", "tiny_bert", *changed, method=made), finished("bb", method=second)]
    given = [f"method.inputs.{n}={folder}" for n, folder in zip(("first", "second"), folders, strict=True)]
    with pytest.raises(ConfigError, match=message) as refusal:
        Built(cell("method=adapter_fusion", *given))
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_stacked_on(cell, finished) -> None:
    given = f"+method.inputs.stack_on={finished('a', method='houlsby')}"
    with pytest.raises(ConfigError, match="method.inputs.stack_on: that adapter is in other modules"):
        Built(cell("method=pfeiffer", given))
    with pytest.raises(ConfigError, match="method.inputs.stack_on=nowhere: allowed are"):
        cell("method=pfeiffer", "+method.inputs.stack_on=nowhere")
