"""`method.args.cache_features`: training on kept features is training on computed ones, and what can't have them is
refused in one line."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from peftbench.errors import ConfigError, NotApplicable
from peftbench.methods.build import build
from peftbench.models import features, layers
from peftbench.run.prepared import PreparedRun
from tests.helpers import on_ranks
from tests.helpers.built import Built
from tests.helpers.composed import composed
from tests.helpers.on_ranks import Followed, Watch

ON = "method.args.cache_features=true"
#: Six steps over two epochs of four batches, the last of an epoch smaller (`at`): batches are cut otherwise in each.
STEPS = 6
ENCODERS = ["tiny_bert", "tiny_roberta", "tiny_distilbert", "tiny_deberta", "tiny_modernbert"]
DECODERS = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_qwen"]
#: OPT drops by a function, not by modules, which `without_dropout` reaches.
NO_DROPOUT = {"tiny_opt": ["+model.config.dropout=0.0", "+model.config.attention_dropout=0.0"]}


def _cases() -> list[list[str]]:
    methods, models = ("linear_probe", "last_layers"), [*ENCODERS, *DECODERS]
    heads = [[f"method={m}", f"model={model}", *NO_DROPOUT.get(model, [])] for model in models for m in methods]
    words = [["method=last_layers", f"model={m}", "formulation=verbaliser"] for m in ("tiny_bert", "tiny_llama")]
    text = ["method=last_layers", "model=tiny_llama", "formulation=text"]
    parts = ["method=last_layers", "model=tiny_bert", "hardware.micro_batch_size=3"]
    choices = ["method=linear_probe", "model=tiny_bert", "hardware.gradient_checkpointing=true"]
    return [*heads, *words, text, parts, choices]


def _weights(followed: Followed) -> dict[str, torch.Tensor]:
    """The trained matrices. A key's bias has a gradient of rounding errors alone, which Adam makes whole steps of."""
    return {name: p.detach() for name, p in followed.tuner.model.named_parameters() if p.requires_grad and p.ndim > 1}


@pytest.mark.parametrize("given", _cases(), ids=" ".join)
def test_without_dropout_cached_equals_uncached(at: Callable[..., PreparedRun], given: list[str]) -> None:
    watches = [Watch(None), Watch(None)]
    with on_ranks.without_dropout():
        plain = on_ranks.follow(at("plain", *given, "recipe.selection=last"), watches[0])
        cached = on_ranks.follow(at("cached", *given, ON, "recipe.selection=last"), watches[1])
    one, other = (list(watch.losses.values()) for watch in watches)
    assert len(one) == STEPS
    assert other == pytest.approx(one, rel=5e-6, abs=5e-6)
    expected, actual = _weights(plain), _weights(cached)
    assert actual.keys() == expected.keys() != set()
    apart = {name: float((actual[name] - p).abs().max()) for name, p in expected.items()}
    assert max(apart.values()) < 1e-5, max(apart, key=lambda name: apart[name])


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
@pytest.mark.parametrize("method", ["linear_probe", "last_layers"])
def test_every_example_passes_the_frozen_layers_once(
    at: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch, method: str, model: str
) -> None:
    rows: dict[str, int] = {"features": 0, "training": 0}
    record, look = features.Features._keep, features.Features._look_up

    def keep(self: Any, batch: Any, *others: int) -> int:
        rows["features"] += len(batch["input_ids"])
        return record(self, batch, *others)

    def look_up(self: Any, named: Any) -> None:
        look(self, named)
        assert self._present is not None, "a training example without features"
        rows["training"] += len(named["input_ids"])
        for module in self._backbone.modules():
            assert not (isinstance(module, nn.Dropout) and module.training and not _trained(self, module))

    monkeypatch.setattr(features.Features, "_keep", keep)
    monkeypatch.setattr(features.Features, "_look_up", look_up)
    followed = on_ranks.follow(at("run", f"method={method}", f"model={model}", ON), Watch(None))
    assert rows["features"] == len(followed.data.train) == 30
    assert rows["training"] in (44, 46)  # An epoch's smallest batch may be among the two of the second.


def _trained(kept: Any, module: nn.Module) -> bool:
    (stack,) = layers.stacks(kept._backbone).values()
    return any(module is part for layer in stack[len(kept._layers) :] for part in layer.modules())


@pytest.mark.parametrize("method", ["linear_probe", "last_layers"])
def test_after_training_it_is_the_plain_model(at: Callable[..., PreparedRun], method: str) -> None:
    followed = on_ranks.follow(at("run", f"method={method}", ON), Watch(None))
    model: Any = followed.tuner.model
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    assert not any("forward" in vars(module) for module in model.modules())
    copied = copy.deepcopy(model)  # As merging does.
    batch = followed.data.train.collate(range(4))
    with torch.no_grad():
        answers = [m.eval()(**followed.tuner.inputs(batch)).logits for m in (model, copied)]
    assert torch.equal(*answers)


def test_evaluation_computes_everything(cell: Callable[..., PreparedRun]) -> None:
    """Also in the middle of training, when features are there."""
    case = Built(cell("method=last_layers", ON))
    plain = Built(cell("method=last_layers"))
    case.train(3)
    plain.model.load_state_dict(case.model.state_dict())
    assert torch.equal(case.logits(), plain.logits())


def test_stopped_and_taken_up_again_it_ends_where_it_would_have(at: Callable[..., PreparedRun]) -> None:
    """To the bit, with dropout above the frozen layers."""
    for method in ("linear_probe", "last_layers"):
        watches = [Watch(None), Watch(3), Watch(None)]
        whole = on_ranks.follow(at(f"{method}-whole", f"method={method}", ON), watches[0])
        on_ranks.follow(at(f"{method}-cut", f"method={method}", ON), watches[1])
        second = on_ranks.follow(at(f"{method}-cut", f"method={method}", ON), watches[2])
        assert second.trained is not None
        assert second.trained.resumed == [3]
        assert watches[0].losses == {**watches[1].losses, **watches[2].losses}
        expected, actual = (dict(f.tuner.model.named_parameters()) for f in (whole, second))
        assert [name for name, p in expected.items() if not torch.equal(p, actual[name])] == []


def test_under_autocast_it_stays_as_near_as_rounding(at: Callable[..., PreparedRun]) -> None:
    given = ["method=last_layers", "hardware.precision=bf16-mixed", "recipe.selection=last"]
    watches = [Watch(None), Watch(None)]
    with on_ranks.without_dropout():
        on_ranks.follow(at("plain", *given), watches[0])
        on_ranks.follow(at("cached", *given, ON), watches[1])
    one, other = (list(watch.losses.values()) for watch in watches)
    assert other == pytest.approx(one, rel=1e-2)


def test_it_is_another_run_than_the_one_without(cell: Callable[..., PreparedRun]) -> None:
    """And what is null isn't part of the key: records of before stay."""
    keys = [cell("method=linear_probe", *more).key for more in ([], [ON], ["method.args.cache_features=null"])]
    assert keys[0] == keys[2] != keys[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["method=linear_probe", "model=tiny_t5"], "one stack"),
        (["method=linear_probe", "hardware.strategy=fsdp", "hardware.devices=2"], "hardware.strategy=fsdp"),
        (["method=last_layers", "hardware.compile=true"], "hardware.compile"),
    ],
)
def test_what_cant_have_features_says_so(given: list[str], said: str) -> None:
    config = composed([*given, ON, "dataset=sst2"])
    assert said in str(build(config.method).refusal(config))


def test_bad_arguments_get_one_line(cell: Callable[..., PreparedRun], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"method.args.cache_features=yes please: allowed is true \| false"):
        build(composed(["method=linear_probe", "method.args.cache_features=yes please"]).method)
    with pytest.raises(NotApplicable, match="no layer is frozen"):
        Built(cell("method=last_layers", "method.args.count=9", ON))
    case = Built(cell("method=linear_probe", ON))
    case.model.get_input_embeddings().requires_grad_(True)
    with pytest.raises(NotApplicable, match="word_embeddings.weight is trained, which isn't above frozen layers"):
        features.frozen_layers(case.model.get_base_model().bert, case.config.model.head)
    monkeypatch.setattr(features, "_free_memory", lambda: 1000)
    with pytest.raises(ConfigError, match="more than half of the 0.0 GB"):
        Built(cell("method=linear_probe", ON)).train(1)


@pytest.mark.slow
def test_several_devices_have_the_steps_of_one(at: Callable[..., PreparedRun], tmp_path: Path) -> None:
    given = ["method=last_layers", "recipe.selection=last"]
    cells = {name: at(name, *given, *more, "hardware=ddp_cpu") for name, more in (("plain", []), ("cached", [ON]))}
    results = on_ranks.crew(cells["plain"].config, tmp_path, "train_all", cells=cells)
    losses = {name: [loss for _, loss in result["losses"]] for name, result in results.items()}
    assert len(losses["plain"]) == STEPS
    assert losses["cached"] == pytest.approx(losses["plain"], rel=1e-5)
    assert len(set(results["cached"]["weights"])) == 1, "ranks have gone apart"
