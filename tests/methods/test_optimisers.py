"""Methods that change training rather than the model, against their papers written out in plain lines."""

import copy
from types import SimpleNamespace

import pytest
import torch

from peftbench.errors import ConfigError
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import layers
from peftbench.run import speed
from peftbench.run.training.optimizer import factory
from tests.helpers.built import Built
from tests.helpers.composed import composed


@pytest.fixture
def built(cell):
    return lambda *more: Built(cell(*more))


def backward(case: Built) -> None:
    case.model.zero_grad()
    case.task.losses(case.tuner(case.batch), case.batch).mean().backward()


def made(case: Built) -> torch.optim.Optimizer:
    return case.method.optimizer(case.model, factory(case.config.recipe, case.config.method.lr))


def adam(m: torch.Tensor, v: torch.Tensor, g: torch.Tensor, t: int) -> torch.Tensor:
    """One step's direction, by Kingma and Ba's algorithm 1; the moments are changed in place."""
    m.mul_(0.9).add_(0.1 * g)
    v.mul_(0.999).add_(0.001 * g * g)
    return (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


# Higher than wide, square, wider than high.
@pytest.mark.parametrize("name", ["intermediate.dense", "attention.self.query", "output.dense"])
def test_galore_is_algorithm_2(built, name: str) -> None:
    case = built("method=galore", "method.args={rank: 3, scale: 2.5, interval: 2}", "method.lr=0.01")
    optimizer = made(case)
    weight = case.model.get_parameter(f"bert.encoder.layer.1.{name}.weight")
    bias = case.model.get_parameter(f"bert.encoder.layer.1.{name}.bias")
    w, b = weight.detach().clone(), bias.detach().clone()
    m, v, mb, vb = torch.zeros(1), torch.zeros(1), torch.zeros_like(b), torch.zeros_like(b)
    decay = case.config.recipe.weight_decay
    for step in range(5):
        backward(case)
        g, wide = weight.grad.clone(), w.shape[0] <= w.shape[1]
        if step % 2 == 0:
            u, _, vh = torch.linalg.svd(g, full_matrices=False)
            p = u[:, :3] if wide else vh[:3].T
        r = p.T @ g if wide else g @ p
        if step == 0:
            m, v = torch.zeros_like(r), torch.zeros_like(r)
        n = adam(m, v, r, step + 1)
        w = (1 - 0.01 * decay) * w - 0.01 * 2.5 * (p @ n if wide else n @ p.T)
        b = b - 0.01 * adam(mb, vb, bias.grad, step + 1)
        optimizer.step()
        assert torch.allclose(weight, w, atol=1e-6, rtol=1e-5)
        assert torch.allclose(bias, b, atol=1e-6, rtol=1e-5)
        assert weight.grad.shape == w.shape
    assert optimizer.state[weight]["exp_avg"].shape == r.shape


def test_galore_goes_on_from_the_optimisers_state(built) -> None:
    arguments = ("method=galore", "method.args={rank: 3, scale: 2.5, interval: 4}", "method.lr=0.01")
    case, again = built(*arguments), built(*arguments)
    optimizer = made(case)
    for step in range(6):
        if step == 3:
            other = made(again)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            again.model.load_state_dict(case.model.state_dict())
        backward(case)
        optimizer.step()
        if step >= 3:
            backward(again)
            other.step()
    pairs = zip(case.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_galore_leaves_weights_no_larger_than_its_rank_alone(built) -> None:
    case = built("method=galore", "method.args={rank: 64, scale: 1, interval: 500}")
    optimizer = made(case)
    weight = case.model.get_parameter("bert.encoder.layer.0.attention.self.value.weight")
    backward(case)
    optimizer.step()
    # 64 x 64: nothing to project, so its state has its own shape, and the step is AdamW's.
    assert optimizer.state[weight]["exp_avg"].equal(0.1 * weight.grad)


def test_llrd_rates_fall_by_the_factor_a_layer(built) -> None:
    case = built("method=llrd", "method.lr=0.1", "method.args.decay=0.5")
    rates = {id(p): group["lr"] for group in made(case).param_groups for p in group["params"]}
    decayed = {id(p): group["weight_decay"] > 0 for group in made(case).param_groups for p in group["params"]}
    expected = {"classifier": 0.1, "pooler": 0.1, "layer.1.": 0.1, "layer.0.": 0.05, "embeddings": 0.025}
    for name, p in case.model.named_parameters():
        assert rates.pop(id(p)) == next(rate for part, rate in expected.items() if part in name), name
        assert decayed[id(p)] is (p.ndim > 1)
    assert not rates


def test_llrd_with_a_decay_of_1_is_full_fine_tuning(train) -> None:
    full = train("method=full", "recipe.max_steps=6", "method.lr=1e-3")
    same = train("method=llrd", "recipe.max_steps=6", "method.lr=1e-3", "method.args.decay=1")
    # The groups, and so the sums of the gradient's norm, are in another order.
    assert same.metrics["validation"]["loss"] == pytest.approx(full.metrics["validation"]["loss"], rel=1e-4)


def test_lisa_trains_the_drawn_layers_the_embeddings_and_the_top(built) -> None:
    case = built("method=lisa", "method.args={layers: 1, interval: 3}")
    optimizer, (callback,) = made(case), case.method.callbacks()
    case.model.train()
    moved = []
    for step in range(12):
        before = {name: p.detach().clone() for name, p in case.model.named_parameters()}
        callback.on_train_batch_start(SimpleNamespace(global_step=step), None, None, 0)
        asleep = {name for name, p in case.model.named_parameters() if not p.requires_grad}
        backward(case)
        optimizer.step()
        callback.on_train_batch_end(SimpleNamespace(global_step=step + 1), None, None, None, 0)
        assert all(p.requires_grad for p in case.model.parameters())
        changed = {name for name, p in case.model.named_parameters() if not torch.equal(p, before[name])}
        assert not changed & asleep
        assert {"bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight", "classifier.weight"} < changed
        layer = {name.split(".")[3] for name in changed if ".layer." in name}
        assert len(layer) == 1
        moved.append(layer.pop())
        with_state = {name for name, p in case.model.named_parameters() if p in optimizer.state}
        assert with_state == set(before) - asleep
    assert moved[::3] == moved[1::3] == moved[2::3]
    assert set(moved) == {"0", "1"}
    # Until the interval of three steps has passed in which the second of the two layers is first drawn.
    assert case.method.cycle() == max(map(moved.index, "01")) + 3


def test_lisa_draws_every_layer_as_often_and_by_its_seed(cell) -> None:
    def draws(seed: int) -> list[list[int]]:
        case = Built(cell("method=lisa", "method.args={layers: 1, interval: 1}"))
        method = build(case.config.method)
        method.apply(case.fresh_base(), Context(case.config.model, case.task, 2000, seed, list))
        return method._draws

    first = draws(0)
    assert first == draws(0)
    assert first != draws(1)
    # 2,000 draws of one of two: 5 standard deviations are 112.
    assert abs(sum(layer for (layer,) in first) - 1000) < 112


def test_lisa_refuses_more_layers_than_there_are(built) -> None:
    with pytest.raises(ConfigError, match="method.args.layers=3: allowed is 1 to 2"):
        built("method=lisa", "method.args.layers=3")


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("lisa", "method.args.layers=0", "method.args.layers=0: allowed is a whole number from 1"),
        ("lisa", "method.args.interval=2.5", "method.args.interval=2.5: allowed is a whole number from 1"),
        ("galore", "method.args.rank=few", "method.args.rank=few: allowed is a whole number from 1"),
        ("galore", "method.args.scale=0", "method.args.scale=0: allowed is a number above 0"),
        ("galore", "~method.args.interval", "method.args.interval=None: allowed is a whole number from 1"),
        ("llrd", "method.args.decay=1.5", "method.args.decay=1.5: allowed is a number above 0 and at most 1"),
        ("full", "+method.args.rank=3", "method.args.rank: no such argument; this method takes none"),
    ],
)
def test_arguments_out_of_range_are_refused(method: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(composed([f"method={method}", override]).method)
    assert str(error.value) == message


def test_every_weight_of_a_model_is_in_one_part(built) -> None:
    case = built("method=full", "model=tiny_t5")
    parts = layers.parts(case.model)
    found = [id(p) for group in (parts.embeddings, *parts.layers, parts.top) for p in group]
    assert sorted(found) == sorted({id(p) for p in case.model.parameters()})
    assert len(parts.layers) == 4


def test_weights_laid_alike_are_copies_and_tied_ones_stay_tied() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in model.named_parameters()}
    speed.lay_alike(model)
    assert model[1].weight is model[0].weight
    for name, tensor in model.named_parameters():
        assert tensor.data_ptr() != before[name][0]
        assert torch.equal(tensor, before[name][1])


def test_the_optimiser_takes_all_weights_in_one_pass_unless_told(cell) -> None:
    made_by = {
        name: factory(cell("method=full", *more).config.recipe, 1e-3)([{"params": [torch.nn.Parameter(torch.ones(3))]}])
        for name, more in {
            "AdamW": [],
            "its loop": ["+recipe.optimizer.foreach=false"],
            "RMSprop": ["recipe.optimizer._target_=torch.optim.RMSprop", "~recipe.optimizer.betas"],
        }.items()
    }
    assert made_by["AdamW"].defaults["fused"] is True
    assert made_by["its loop"].defaults["fused"] is None
    assert "fused" not in made_by["RMSprop"].defaults
