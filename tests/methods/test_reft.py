"""LoReFT against its equation, whole tensors, on tiny models."""

import pytest
import torch

from peftbench.methods.reft import ReftConfig, ReftLayer, ends
from tests.helpers.built import Built, shake
from tests.helpers.own_tuners import layers_of

MODELS = ["tiny_bert", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tiny_gpt2", "tiny_llama", "tiny_t5"))]


def test_the_first_and_the_last_tokens() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    expected = [[1, 0, 0, 0, 1, 1], [1, 1, 1, 0, 0, 0], [0, 0, 1, 0, 1, 1]]
    assert ends(mask, 1, 2).int().tolist() == expected
    assert ends(mask, 0, 1).int().tolist() == [[0, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]]


@pytest.mark.parametrize("model", MODELS)
def test_equation_at_the_chosen_tokens_and_nowhere_else(cell, model: str) -> None:
    case = Built(cell("method=loreft", f"model={model}", "method.adapter.first=1", "method.adapter.last=2"))
    shake(case.model, seed=0, scale=0.3)
    layers, before, after = layers_of(case, ReftLayer), {}, {}
    assert len(layers) == 2
    for name, layer in layers.items():
        layer.base_layer.register_forward_hook(lambda m, x, y, n=name: before.update({n: y}))
        layer.register_forward_hook(lambda m, x, y, n=name: after.update({n: y}))
    case.logits()
    mask = case.batch["attention_mask"]
    assert mask.min() == 0  # There is padding.
    for name, layer in layers.items():
        h, edited = (y if torch.is_tensor(y) else y[0] for y in (before[name], after[name]))
        r = torch.linalg.qr(layer.reft_rotation["default"]).Q.T
        torch.testing.assert_close(r @ r.T, torch.eye(4), atol=1e-5, rtol=0)
        w, b = layer.reft_weight["default"], layer.reft_bias["default"]
        expected = h.clone()
        for i, length in enumerate(mask.sum(dim=1).tolist()):
            for t in {0, length - 2, length - 1}:
                expected[i, t] = h[i, t] + r.T @ (w @ h[i, t] + b - r @ h[i, t])
        torch.testing.assert_close(edited, expected, atol=1e-4, rtol=1e-4)
        assert (edited - h).abs().max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_while_answers_are_generated_nothing_more_is_edited(cell, model: str) -> None:
    case = Built(cell("method=loreft", f"model={model}", "formulation=verbaliser"))
    shake(case.model, seed=0, scale=0.3)
    seen = []
    layer = next(iter(layers_of(case, ReftLayer).values()))
    layer.register_forward_hook(lambda m, x, y: seen.append(m._chosen("default", y if torch.is_tensor(y) else y[0])))
    inputs = {k: case.batch[k][:2] for k in ("input_ids", "attention_mask")}
    case.model.eval().generate(**inputs, max_new_tokens=4, num_beams=2, do_sample=False, eos_token_id=None)
    assert seen[0] is not None
    assert all(chosen is None for chosen in seen[1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"rank": 0}, "rank must be an integer of at least 1"), ({"first": 0, "last": 0}, "no token would be edited")],
)
def test_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReftConfig(**arguments)
