"""Which models have a narrow last layer, and what stays whole."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from peftbench.models import dropout, layers, one_position
from tests.helpers.composed import composed

ENCODERS = ["tiny_bert", "tiny_roberta", "tiny_distilbert", "tiny_deberta", "tiny_modernbert"]
WIDTH, LENGTH = 64, 9


def _config(model: str, **others: Any) -> Any:
    described = dict(composed([f"model={model}"]).model.config or {})
    return AutoConfig.for_model(described.pop("model_type"), **{**described, **others})


def _model(model: str, **others: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(_config(model, **others)).eval()


def _inputs(rows: int = 3) -> dict[str, torch.Tensor]:
    mask = torch.ones(rows, LENGTH, dtype=torch.long)
    mask[1:, LENGTH // 2 :] = 0
    return {"input_ids": torch.randint(5, 200, (rows, LENGTH)), "attention_mask": mask}


def _last(model: nn.Module) -> nn.Module:
    (stack,) = layers.stacks(model).values()
    return stack[-1]


def _widths(model: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[int, Any]:
    """The positions that the last layer puts out, and what the model answers."""
    seen: list[int] = []

    def look(_: nn.Module, __: Any, output: Any) -> None:
        seen.append((output if isinstance(output, torch.Tensor) else output[0]).shape[1])

    handle = _last(model).register_forward_hook(look)
    try:
        with torch.no_grad():
            return (answer := model(**inputs)) and (seen[-1], answer)
    finally:
        handle.remove()


@pytest.mark.parametrize("model", ENCODERS)
def test_the_last_layer_gives_one_position_and_the_same_answers(model: str) -> None:
    made, inputs = _model(model), _inputs()
    width, whole = _widths(made, inputs)
    assert width == LENGTH
    assert not one_position.installed(made)
    assert one_position.install(made)
    assert one_position.installed(made)
    width, narrow = _widths(made, inputs)
    assert width == 1
    assert torch.allclose(narrow.logits, whole.logits, atol=1e-6)


@pytest.mark.parametrize("model", ENCODERS)
def test_hidden_states_and_attentions_are_of_all_positions(model: str) -> None:
    made, inputs = _model(model, attn_implementation="eager"), _inputs()
    one_position.install(made)
    for asked in ("output_hidden_states", "output_attentions"):
        width, answer = _widths(made, {**inputs, asked: True})
        assert width == LENGTH
        last = (answer.hidden_states or answer.attentions)[-1]
        assert last.shape[-2] == LENGTH
    assert _widths(made, inputs)[0] == 1
    made.config.output_hidden_states = True
    assert _widths(made, inputs)[0] == LENGTH


@pytest.mark.parametrize("model", ENCODERS)
def test_a_copy_is_narrow_by_itself_and_saves_the_same(model: str, tmp_path) -> None:
    made, inputs = _model(model), _inputs()
    names = list(made.state_dict())
    one_position.install(made)
    copied = copy.deepcopy(made)
    _, whole = _widths(made, {**inputs, "output_hidden_states": True})  # Whole there, and still narrow in the copy.
    width, answer = _widths(copied, inputs)
    assert width == 1
    assert torch.allclose(answer.logits, whole.logits, atol=1e-6)
    assert list(made.state_dict()) == names
    made.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert type(again) is type(made)
    width, loaded = _widths(again, inputs)
    assert width == LENGTH
    assert torch.allclose(loaded.logits, whole.logits, atol=1e-6)


def test_installing_twice_is_installing_once() -> None:
    made = _model("tiny_bert")
    assert one_position.install(made)
    kind = type(_last(made))
    assert one_position.install(made)
    assert type(_last(made)) is kind
    assert len(made.bert._forward_pre_hooks) == 1


def test_a_shorter_model_is_narrow_in_its_new_last_layer() -> None:
    made, inputs = _model("tiny_bert", num_hidden_layers=3), _inputs()
    one_position.install(made)
    layers.keep(made, {"bert.encoder.layer": [0, 1]})
    width, whole = _widths(made, inputs)
    assert width == LENGTH
    assert one_position.install(made)
    width, narrow = _widths(made, inputs)
    assert width == 1
    assert torch.allclose(narrow.logits, whole.logits, atol=1e-6)


class _Wrapped(nn.Module):
    """A layer, or its attention, within something that nobody here knows."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside


def test_what_reads_other_positions_or_was_changed_stays_whole() -> None:
    masked = AutoModelForMaskedLM.from_config(_config("tiny_bert"))
    mean = _model("tiny_modernbert", classifier_pooling="mean")
    decoder, wrapped, attention = _model("tiny_llama"), _model("tiny_bert"), _model("tiny_bert")
    wrapped.bert.encoder.layer[-1] = _Wrapped(wrapped.bert.encoder.layer[-1])
    attention.bert.encoder.layer[-1].attention.self = _Wrapped(attention.bert.encoder.layer[-1].attention.self)
    for model in (masked, mean, decoder, wrapped, attention, nn.Linear(2, 2)):
        assert not one_position.install(model)
        assert not one_position.installed(model)


@pytest.mark.parametrize("model", ENCODERS)
def test_gradient_checkpointing_and_dropout_work(model: str) -> None:
    made = _model(model)
    dropout.install(made)
    one_position.install(made)
    made.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    gradients = []
    for _ in range(2):
        torch.manual_seed(1)
        made.zero_grad()
        made.train()(**_inputs_at(4)).logits.square().mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in made.parameters() if p.grad is not None]))
        made.gradient_checkpointing_disable()
    assert torch.allclose(*gradients, atol=1e-6)
    assert gradients[0].abs().max() > 0


def _inputs_at(seed: int) -> dict[str, torch.Tensor]:
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    inputs = _inputs()
    torch.set_rng_state(state)
    return inputs
