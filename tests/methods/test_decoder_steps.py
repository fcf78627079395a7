"""Decoders: logits at scored positions alone, and no mask for padding behind the text. Compared with the whole
computation, of every method."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from peftbench.config import paths
from peftbench.errors import NotApplicable
from peftbench.models import causal
from tests.helpers.built import Built, shake
from tests.helpers.composed import trained

#: Where every batch has padding: three texts of unlike length.
FORMULATIONS = {
    "verbaliser": ["dataset=sst2", "formulation=verbaliser"],
    "text": ["dataset=sst2", "formulation=text"],
    "head": ["dataset=sst2", "formulation=head"],
}
#: In the default run, on one model, where each can be built.
SHOWN = ["lora", "full", "prefix", "prompt", "loreft", "p_tuning_template", "houlsby"]


def cases() -> Iterator[Any]:
    """Every method in every formulation on one model, and once on each of the others."""
    rest = [pytest.mark.slow, pytest.mark.matrix]
    pairs = [("tiny_llama", how) for how in FORMULATIONS] + [("tiny_gpt2", "verbaliser"), ("tiny_opt", "head")]
    for method, file in trained().items():
        for model, how in pairs:
            if file.get("inputs") and how != "head":
                continue  # The finished run that it reads is of a head.
            if how not in file.get("formulations", FORMULATIONS) or "decoder" not in file["supports"]:
                continue
            usual = method in SHOWN and model == "tiny_llama"
            yield pytest.param(method, model, how, marks=[] if usual else rest, id=f"{method}-{model}-{how}")


@pytest.fixture
def built(cell, named) -> Callable[..., Built]:
    def build(method: str, model: str, how: str) -> Built:
        try:
            case = Built(cell(*named(method, model), *FORMULATIONS[how]))
        except NotApplicable as error:
            if method in SHOWN and model == "tiny_llama":
                raise
            pytest.skip(str(error))  # Such as BitFit where a model has no biases.
        shake(case.model, seed=1)
        return case

    return build


def outcome(case: Built) -> dict[str, torch.Tensor]:
    """The loss that is minimised and the gradient of all that is trained, without dropout."""
    case.model.zero_grad(set_to_none=True)
    case.model.eval()
    outputs = case.tuner(case.batch)
    loss = case.task.losses(outputs, case.batch).mean()
    case.method.loss(loss, outputs, case.batch).backward()
    gradients = {n: p.grad for n, p in case.model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), "width": torch.tensor(outputs.logits.shape[1]), **gradients}


@pytest.fixture
def whole_logits(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Calls for the logits of all positions from now on."""

    def apply() -> None:
        for module in ("verbaliser", "likelihood"):
            monkeypatch.setattr(f"peftbench.tasks.{module}.keep_from", lambda *_: {})

    return apply


@pytest.mark.parametrize(("method", "model", "how"), list(cases()))
def test_what_is_left_out_changes_nothing(
    built: Callable[..., Built], whole_logits: Callable[[], None], method: str, model: str, how: str
) -> None:
    case = built(method, model, how)
    lengths = case.batch["attention_mask"].sum(dim=1)
    assert lengths.min() < lengths.max(), "there is padding"
    lean, left_out = outcome(case), case.tuner._needless
    whole_logits()
    case.tuner._needless, case.tuner._always = [], {}
    whole = outcome(case)
    assert lean.keys() == whole.keys()
    if how != "head":
        assert lean.pop("width") < whole.pop("width")
    scale = max(float(tensor.abs().max()) for tensor in whole.values())
    for name, tensor in whole.items():
        difference = float((lean[name] - tensor).abs().max())
        assert difference <= 2e-6 * max(scale, 1.0), f"{name}: {difference} of {scale}; left out: {left_out}"


@pytest.mark.parametrize("how", ["verbaliser", "text"])
def test_losses_are_equal_to_the_bit(built: Callable[..., Built], whole_logits: Callable[[], None], how: str) -> None:
    """Of the logits alone: without the mask, attention has another kernel."""
    case = built("lora", "tiny_llama", how)
    case.tuner._needless = []
    assert case.tuner._always == {"use_cache": False}
    lean = outcome(case)["loss"]
    whole_logits()
    case.tuner._always = {}
    assert torch.equal(lean, outcome(case)["loss"])


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2"])
@pytest.mark.parametrize("method", ["full", "lora", "prompt", "loreft"])
def test_keys_and_values_are_kept_to_write_alone(cell, model: str, method: str) -> None:
    case = Built(cell(f"model={model}", f"method={method}", *FORMULATIONS["text"]))
    assert case.tuner(case.batch).get("past_key_values") is None
    arguments = case.tuner.inputs(case.batch)
    del arguments["use_cache"]
    assert case.model(**arguments).get("past_key_values") is not None, "they would be"


@pytest.mark.parametrize("model", [name for name in paths.choices("model") if name.startswith("tiny_")])
def test_decoders_alone_are_causal(cell, model: str) -> None:
    case = Built(cell("method=full", f"model={model}"))
    assert causal.is_causal(case.model) is (case.config.model.family == "decoder")


def test_a_mask_is_left_out_where_no_one_reads_it(cell) -> None:
    for method, reads in (("lora", False), ("full", False), ("prompt", True), ("loreft", True)):
        case = Built(cell(f"method={method}", "model=tiny_llama", "formulation=verbaliser"))
        assert ("attention_mask" in case.tuner.inputs(case.batch)) is reads


@pytest.mark.parametrize("how", ["verbaliser", "text"])
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_gpt2", "tiny_opt"])
def test_the_output_layer_is_given_one_piece(cell, model: str, how: str) -> None:
    case = Built(cell(f"model={model}", "method=lora", *FORMULATIONS[how]))
    given: list[torch.Tensor] = []
    output = case.model.get_base_model().get_output_embeddings()
    output.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    case.tuner(case.batch)
    (hidden,) = given
    assert len(hidden) > 1
    assert hidden.shape[1] < case.tuner.inputs(case.batch)["input_ids"].shape[1], "positions are left out"
    assert hidden.is_contiguous()
