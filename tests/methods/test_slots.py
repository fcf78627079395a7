"""P-tuning at several places: where the prompt goes in, what makes it, what is kept."""

import pytest
import torch
from safetensors.torch import load_file

from peftbench.methods.slots import SlotsConfig, SlotsEmbedding, insert
from peftbench.run import outputs
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of


def test_insert() -> None:
    x, values = torch.arange(10).view(2, 5), torch.tensor([-1, -2])
    assert insert(x, values, torch.tensor([0, 3])).tolist() == [[-1, -2, 0, 1, 2, 3, 4], [5, 6, 7, -1, -2, 8, 9]]
    assert insert(x, values, torch.tensor([5, 1]))[0].tolist() == [0, 1, 2, 3, 4, -1, -2]


@pytest.mark.parametrize(
    ("model", "formulation", "skipped"),
    [
        ("tiny_bert", "verbaliser", 1),
        ("tiny_bert", "head", 1),
        pytest.param("tiny_gpt2", "verbaliser", 0, marks=pytest.mark.slow),
        pytest.param("tiny_llama", "head", 0, marks=pytest.mark.slow),
        pytest.param("tiny_t5", "verbaliser", 0, marks=pytest.mark.slow),
    ],
)
def test_the_prompt_stands_before_the_text_and_before_the_answer(
    cell, model: str, formulation: str, skipped: int
) -> None:
    sizes = ("method.adapter.num_virtual_tokens=5", "method.adapter.front=2")
    case = Built(cell("method=p_tuning_template", f"model={model}", f"formulation={formulation}", *sizes))
    shake(case.model, seed=0)
    base, seen = case.model.get_base_model(), {}
    plain = base.forward

    def watch(**arguments):
        seen.update(arguments)
        return plain(**arguments)

    base.forward = watch
    case.logits()
    (layer,) = layers_of(case, SlotsEmbedding).values()
    prompt, mask_token = layer.prompt("default"), case.method.arguments(base, case.context)["mask_token_id"]
    ids, lengths = case.batch["input_ids"], case.batch["attention_mask"].sum(dim=1).tolist()
    assert min(lengths) < max(lengths)
    for i, length in enumerate(lengths):
        row = ids[i, :length].tolist()
        end = length if case.config.model.family == "decoder" else length - 1
        answer = row.index(mask_token) if mask_token in row else end
        assert (mask_token in row) is (model == "tiny_bert" and formulation == "verbaliser")
        words = layer.base_layer(ids[i, :length])
        expected = [words[:skipped], prompt[:2], words[skipped:answer], prompt[2:], words[answer:]]
        torch.testing.assert_close(seen["inputs_embeds"][i, : length + 5], torch.cat(expected))
        assert seen["attention_mask"][i].tolist() == [1] * (length + 5) + [0] * (max(lengths) - length)
    assert seen.get("input_ids") is None


def test_what_makes_the_prompt(cell) -> None:
    case = Built(cell("method=p_tuning_template"))
    shake(case.model, seed=0)
    (layer,) = layers_of(case, SlotsEmbedding).values()
    lstm, rows = layer.slots_lstm["default"], layer.slots_rows["default"]
    weights = dict(lstm.named_parameters())

    def direction(suffix: str, order: range) -> torch.Tensor:
        h = c = torch.zeros(32)
        found = {}
        for t in order:
            gates = (
                weights[f"weight_ih_l0{suffix}"] @ rows[t]
                + weights[f"bias_ih_l0{suffix}"]
                + weights[f"weight_hh_l0{suffix}"] @ h
                + weights[f"bias_hh_l0{suffix}"]
            )
            i, f, g, o = gates.chunk(4)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = found[t] = torch.sigmoid(o) * torch.tanh(c)
        return torch.stack([found[t] for t in range(20)])

    both = torch.cat([direction("", range(20)), direction("_reverse", range(19, -1, -1))], dim=1)
    inner, outer = layer.slots_inner["default"], layer.slots_outer["default"]
    expected = torch.relu(both @ inner.weight.T + inner.bias) @ outer.weight.T + outer.bias
    torch.testing.assert_close(layer.prompt("default"), expected, atol=1e-5, rtol=1e-5)


def test_the_vectors_alone_are_kept(cell, tmp_path) -> None:
    case = Built(cell("method=p_tuning_template"))
    outputs.save(case.method, case.model, tmp_path / "a", keep=True)
    kept = {n: t for n, t in load_file(tmp_path / "a" / "adapter_model.safetensors").items() if "slots" in n}
    assert [tuple(t.shape) for t in kept.values()] == [(20, 64)]


def test_refused() -> None:
    with pytest.raises(ValueError, match="front=4 must be between 0 and num_virtual_tokens=3"):
        SlotsConfig(num_virtual_tokens=3, front=4)
