"""Methods that choose what is trained, against their papers' equations, whole tensors, on tiny models."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from peft.utils.other import ModulesToSaveWrapper
from safetensors.torch import load_file
from transformers.pytorch_utils import Conv1D

from peftbench.methods.diff_gates import DiffLinear, hard_concrete
from peftbench.methods.first_batches import first_rows
from peftbench.methods.hiwi import HiwiConfig, HiwiLinear
from peftbench.methods.sparse import SparseConfig, SparseLinear
from peftbench.models import parameters
from peftbench.run import outputs
from peftbench.run.training.optimizer import factory
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of


def linears(model) -> dict[str, torch.nn.Module]:
    """BERT's layers' linear modules by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layer." in n}


def largest(scores: dict[str, torch.Tensor], density: float) -> dict[str, list[int]]:
    """The places of the largest scores over all modules, by sorting."""
    ranked = sorted(
        ((value, name, place) for name, row in scores.items() for place, value in enumerate(row.tolist())), reverse=True
    )
    kept = ranked[: round(density * len(ranked))]
    return {name: sorted(place for _, other, place in kept if other == name) for name in scores}


@pytest.mark.parametrize("method", ["fish_mask", "sam_selection"])
def test_what_is_chosen(cell, method: str) -> None:
    size = 1 if method == "fish_mask" else 4
    case = Built(cell(f"method={method}", "method.args.batches=3", f"method.args.batch_size={size}"))
    model = case.fresh_base()
    found = linears(model)
    sums = {name: torch.zeros(m.weight.numel() + m.bias.numel()) for name, m in found.items()}
    for batch in first_rows(case.context, size=size, batches=3):
        model.zero_grad()
        inputs = {k: v for k, v in case.task.inputs(batch).items()}
        log_likelihood = model(**inputs).logits.log_softmax(-1)[torch.arange(size), batch["labels"]]
        (-log_likelihood.mean()).backward()
        for name, m in found.items():
            gradient = torch.cat([m.weight.grad.flatten(), m.bias.grad])
            sums[name] += gradient**2 if method == "fish_mask" else gradient
    scores = sums if method == "fish_mask" else {name: total**2 for name, total in sums.items()}
    expected = {name: places for name, places in largest(scores, 0.005).items() if places}
    chosen = {n: m.sparse_indices["default"].tolist() for n, m in layers_of(case, SparseLinear).items()}
    same = sum(len(set(chosen.get(name, [])) & set(places)) for name, places in expected.items())
    total = sum(map(len, expected.values()))
    assert sum(map(len, chosen.values())) == total
    assert same >= total - 2  # Two entries may tie but for the order of sums.


@pytest.mark.parametrize("model", ["tiny_bert", pytest.param("tiny_gpt2", marks=pytest.mark.slow)])
def test_a_sparse_layer_is_the_layer_with_those_entries_moved(cell, tmp_path, model: str) -> None:
    case = Built(cell("method=fish_mask", f"model={model}"))
    shake(case.model, seed=0, scale=0.5)
    for layer in layers_of(case, SparseLinear).values():
        base, moved = layer.base_layer, [layer.base_layer.weight.clone(), layer.base_layer.bias.clone()]
        size = moved[0].numel()
        places, values = layer.sparse_indices["default"].tolist(), layer.sparse_values["default"].tolist()
        for place, value in zip(places, values, strict=True):
            part, where = (moved[0].view(-1), place) if place < size else (moved[1], place - size)
            part[where] += value
        weight = moved[0] if isinstance(base, Conv1D) else moved[0].T
        x = torch.randn(3, 5, weight.shape[0])
        torch.testing.assert_close(layer(x), x @ weight + moved[1], atol=1e-5, rtol=1e-5)
    before = {n: p.clone() for n, p in case.fresh_base().named_parameters()}
    expected = case.logits()
    case.model.merge_adapter()
    torch.testing.assert_close(case.logits(), expected, atol=1e-5, rtol=0)
    case.model.unmerge_adapter()
    now = {n.replace(".base_layer", ""): p for n, p in case.model.get_base_model().named_parameters()}
    assert all(torch.equal(now[n], tensor) for n, tensor in before.items() if n in now and not case.in_head(n))


def test_a_sparse_adapter_takes_eight_bytes_an_entry(cell, tmp_path) -> None:
    case = Built(cell("method=fish_mask"))
    outputs.save(case.method, case.model, tmp_path / "a", keep=True)
    counts = parameters.count(case.model, case.config.model.head)
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert sum(t.numel() * t.element_size() for t in tensors.values()) == 8 * counts["adapter"] + 4 * counts["head"]
    entries = sum(m.weight.numel() + m.bias.numel() for m in linears(case.fresh_base()).values())
    assert counts["adapter"] == round(0.005 * entries)


def test_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="counts must be integers above 0"):
        SparseConfig(counts={"a": 0})


# --- diff pruning --------------------------------------------------------------------------------


def test_hard_concrete_gates() -> None:
    alpha, u = torch.tensor([-2.0, 0.0, 0.3, 4.0]), torch.tensor([0.9, 0.2, 0.6, 0.5])
    expected = []
    for a, x in zip(alpha.tolist(), u.tolist(), strict=True):
        s = 1 / (1 + math.exp(-(math.log(x) - math.log(1 - x) + a)))
        expected.append(min(1.0, max(0.0, s * 3.0 - 1.5)))
    torch.testing.assert_close(hard_concrete(alpha, u), torch.tensor(expected))
    assert set(expected) & {0.0, 1.0}


@pytest.mark.parametrize("structured", [True, False])
def test_diff_pruning_differs_by_gates_and_pays_for_open_ones(cell, structured: bool) -> None:
    overrides = ("method.args.penalty=0.5", f"method.adapter.structured={str(structured).lower()}")
    case = Built(cell("method=diff_pruning", *overrides))
    shake(case.model, seed=0, scale=0.5)
    for p in (p for n, p in case.model.named_parameters() if "diff_g" in n):
        p.data.add_(-5)  # Near the middle, where gates are neither shut nor open.
    opened = 0.0
    for layer in layers_of(case, DiffLinear).values():
        w, alpha = layer.diff_weight["default"], layer.diff_gate["default"]
        shape = layer.base_layer.weight.shape
        gate, chance = (torch.sigmoid(alpha) * 3 - 1.5).clamp(0, 1), torch.sigmoid(alpha)
        if structured:
            groups = layer.diff_group["default"]
            which = torch.tensor([0] * shape.numel() + [1] * shape[0])
            gate, chance = (
                gate * (torch.sigmoid(groups) * 3 - 1.5).clamp(0, 1)[which],
                chance * torch.sigmoid(groups)[which],
            )
        opened += chance.sum()
        change = gate * w
        x = torch.randn(3, 5, shape[1])
        weight, bias = layer.base_layer.weight + change[: shape.numel()].view(shape), layer.base_layer.bias
        expected = x @ weight.T + bias + change[shape.numel() :]
        torch.testing.assert_close(layer.eval()(x), expected, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(layer.train()(x), expected, atol=1e-3)  # The gates are drawn while it trains.
    task_loss = torch.tensor(1.0)
    torch.testing.assert_close(case.method.loss(task_loss, None, {}), 1.0 + 0.5 * opened, rtol=1e-5, atol=0)


@pytest.mark.slow
def test_diff_pruning_ends_as_a_sparse_adapter_that_trains_on(cell, tmp_path) -> None:
    case = Built(cell("method=diff_pruning", "method.args.gate_lr=0.1"))
    optimizer = case.method.optimizer(case.model, factory(case.config.recipe, 1e-2))
    callback, trainer = case.method.callbacks()[0], SimpleNamespace(global_step=0, optimizers=[optimizer])

    def step() -> None:
        optimizer.zero_grad()
        outputs = case.tuner(case.batch)
        loss = case.task.losses(outputs, case.batch).mean()
        case.method.loss(loss, outputs, case.batch).backward()
        optimizer.step()
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, None, None, None, 0)

    while trainer.global_step < 49:
        step()
    assert not case.method.may_select(49)
    found = {n: m.difference("default", noisy=False) for n, m in layers_of(case, DiffLinear).items()}
    assert found
    step()
    assert case.method.may_select(50)
    layers = layers_of(case, SparseLinear)
    entries = sum(change.numel() for change in found.values())
    counts = parameters.count(case.model, case.config.model.head)
    assert counts["adapter"] == sum(len(m.sparse_values["default"]) for m in layers.values())
    assert abs(counts["adapter"] - 0.005 * entries) <= 1
    in_optimizer = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert in_optimizer == {id(p) for p in case.model.parameters() if p.requires_grad}
    before = {n: p.clone() for n, p in case.model.named_parameters() if p.requires_grad}
    first = case.loss()
    for _ in range(10):
        step()
    assert all(not torch.equal(p, before[n]) for n, p in case.model.named_parameters() if p.requires_grad)
    assert case.loss() < first
    case.method.save(case.model, tmp_path)
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path)
    assert torch.equal(case.logits(loaded), case.logits())
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "SPARSE"


# --- HiWi and the last layers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "model"),
    [
        ("hiwi", "tiny_bert"),
        ("hiwi_weight", "tiny_bert"),
        pytest.param("hiwi_weight", "tiny_llama", marks=pytest.mark.slow),
        pytest.param("hiwi_weight", "tiny_gpt2", marks=pytest.mark.slow),
    ],
)
def test_hiwi_equation(cell, method: str, model: str) -> None:
    case = Built(cell(f"method={method}", f"model={model}"))
    shake(case.model, seed=0, scale=0.3)
    for layer in layers_of(case, HiwiLinear).values():
        base, down, up = layer.base_layer, layer.hiwi_down["default"], layer.hiwi_up["default"]
        weight = base.weight.T if isinstance(base, Conv1D) else base.weight
        bias = torch.zeros(weight.shape[0]) if base.bias is None else base.bias
        rows = bias if method == "hiwi" else weight
        change = torch.relu(rows @ down.weight.T + down.bias) @ up
        x = torch.randn(3, 5, weight.shape[1])
        moved = (weight, bias + change) if method == "hiwi" else (weight + change, bias)
        torch.testing.assert_close(layer(x), x @ moved[0].T + moved[1], atol=1e-4, rtol=1e-4)
        assert change.abs().max() > 1e-2


def test_hiwi_keeps_the_biases_and_throws_its_network_away(cell, tmp_path) -> None:
    case = Built(cell("method=hiwi"))
    shake(case.model, seed=0, scale=0.3)
    outputs.save(case.method, case.model, tmp_path / "a", keep=True)
    kept = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert {name.rpartition(".")[2] for name in kept if "classifier" not in name} == {"bitfit_delta"}
    assert sum(t.numel() for name, t in kept.items() if "bitfit" in name) == 2 * (64 + 128)
    expected = case.logits()
    loaded = PeftModel.from_pretrained(case.fresh_base(), tmp_path / "a")
    assert torch.equal(case.logits(loaded), expected)
    torch.testing.assert_close(case.logits(case.method.merge(case.model)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("field", "value"), [("part", "weights"), ("bottleneck_size", 0)])
def test_hiwi_refuses(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be .* not {value!r}"):
        HiwiConfig(**{field: value})


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("tiny_bert", ["bert.encoder.layer.1"]),
        pytest.param("tiny_llama", ["model.layers.1"], marks=pytest.mark.slow),
        pytest.param("tiny_gpt2", ["transformer.h.1"], marks=pytest.mark.slow),
        pytest.param("tiny_t5", ["encoder.block.1", "decoder.block.1"], marks=pytest.mark.slow),
    ],
)
def test_the_last_layer_is_trained_whole(cell, model: str, names: list[str]) -> None:
    case = Built(cell("method=last_layers", f"model={model}"))
    base = case.model.get_base_model()
    found = [n for n, m in base.named_modules() if isinstance(m, ModulesToSaveWrapper) and not case.in_head(n)]
    assert found == names
    plain = case.fresh_base()
    size = sum(p.numel() for name in names for p in plain.get_submodule(name).parameters())
    assert parameters.count(case.model, case.config.model.head)["adapter"] == size
