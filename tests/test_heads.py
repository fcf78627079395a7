"""A task head computes in 32 bits in mixed precision; without it nothing is other than it was."""

import copy

import pytest
import torch
from built import Built
from torch import nn

from peftbench import backbones, heads

MODELS = ["tiny_bert", "tiny_deberta", "tiny_roberta", "tiny_distilbert", "tiny_modernbert", "tiny_llama", "tiny_gpt2",
          "tiny_opt", "tiny_t5", "tiny_bart"]  # fmt: skip
ALL = ["method=full", "recipe.train_samples=16", "recipe.eval_samples=8"]


def _logits(case: Built) -> torch.Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = case.model.eval()(**case.tuner.inputs(case.batch))
    assert outputs.logits.dtype == torch.float32
    return outputs.logits


@pytest.mark.parametrize("model", MODELS)
def test_logits_are_not_rounded(cell, model: str) -> None:
    more = [f"model={model}", "formulation=head", "hardware=cpu_bf16", *ALL]
    logits = _logits(Built(cell(*more)))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize(
    "method", ["lora", "linear_probe", "bitfit", "prefix", "prompt", "ia3", "houlsby", "ln_tuning"]
)
def test_they_are_not_under_methods(cell, method: str) -> None:
    """peft copies the head, and methods put layers around others."""
    case = Built(cell("model=tiny_bert", "hardware=cpu_bf16", *ALL[1:], f"method={method}"))
    logits = _logits(case)
    assert not torch.equal(logits, logits.bfloat16().float())
    merged = case.method.merge(case.model)
    if merged is not None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert merged.eval()(**case.tuner.inputs(case.batch)).logits.dtype == torch.float32
    loss = case.train(1)[0]
    assert loss > 0


@pytest.mark.parametrize("model", MODELS)
def test_in_32_bits_nothing_changes(cell, model: str) -> None:
    found = cell(f"model={model}", "formulation=head", *ALL)
    case = Built(found)
    plain = case.logits()
    assert not any("In32Bits" in str(kind) for module in case.model.modules() for kind in type(module).__mro__[:1])
    same = heads.in_32_bits(copy.deepcopy(case.model), case.config.model.head)
    with torch.no_grad():
        assert torch.equal(case.task.predictions(same(**case.task.inputs(case.batch)), case.batch), plain)


def test_label_words_are_scored_by_no_head(cell) -> None:
    """ModernBERT's masked model has a `head` too."""
    found = cell("model=tiny_modernbert", "formulation=verbaliser", "hardware=cpu_bf16", *ALL)
    case = Built(found)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert case.model(**case.task.inputs(case.batch)).logits.dtype == torch.bfloat16
    assert backbones.exact_head(case.model, case.config, case.task) is case.model


def test_copies_keep_it() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.classifier = nn.Linear(4, 4), nn.Linear(4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.classifier(self.body(x))

    model = heads.in_32_bits(Model(), ["classifier"])
    other = copy.deepcopy(model)
    other.classifier.weight.data.zero_()
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.ones(1, 4)).dtype == other(torch.ones(1, 4)).dtype == torch.float32
        assert other.classifier(torch.ones(1, 4)).item() == other.classifier.bias.item()
    assert isinstance(model.classifier, nn.Linear)
    assert model.state_dict().keys() == Model().state_dict().keys()


def test_numbers_are_told_apart(cell) -> None:
    """1,000 numbers near each other: in bfloat16 a few dozen different ones were left."""
    torch.manual_seed(0)
    head = nn.Sequential()
    head.add_module("classifier", nn.Linear(64, 1))
    states = torch.randn(1000, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        head.classifier.bias.fill_(4.0)
        head.classifier.weight.mul_(0.1)
        before = head(states).float().unique().numel()
        after = heads.in_32_bits(head, ["classifier"])(states).unique().numel()
    assert before < 100
    assert after > 900
