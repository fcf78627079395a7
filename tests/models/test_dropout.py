"""The CPU's own dropout: the right distribution, gradient and scale, and attention that equals torch's."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from peftbench.models import dropout, transformers_compat
from peftbench.results.store import ResultStore
from peftbench.run import run
from peftbench.run.context import RunContext


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
def test_drops_the_right_share_and_keeps_the_mean(p: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1001, requires_grad=True)
    y = dropout.dropout(x, p)
    dropped = (y == 0).float().mean().item()
    assert dropped == pytest.approx(p, abs=2e-3)
    kept = y[y != 0]
    assert (kept == kept[0]).all()
    assert kept[0].item() == pytest.approx(1 / (1 - p), rel=2e-5)
    # Four decisions come out of one integer: each of the four must be as likely, and independent of its neighbour.
    drops = (y.detach() == 0).flatten()[: 1000 * 1000].view(-1, 4).float()
    assert torch.allclose(drops.mean(0), torch.full((4,), p), atol=4e-3)
    assert (drops[:, 0] * drops[:, 1]).mean().item() == pytest.approx(p * p, abs=4e-3)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_follows_torchs_generator() -> None:
    x, states = torch.ones(37, 5), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(dropout.dropout(x, 0.5))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_keeps_the_type_and_any_shape(dtype: torch.dtype) -> None:
    for shape in [(3,), (1, 1), (0, 4), (2, 3, 5)]:
        y = dropout.dropout(torch.ones(shape, dtype=dtype), 0.1)
        assert y.dtype == dtype
        assert y.shape == shape


def test_install_replaces_every_dropout_and_evaluation_is_untouched() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.ModuleDict({"a": nn.Dropout(0.2)}))
    dropout.install(model)
    assert [m.p for m in model.modules() if isinstance(m, dropout.Dropout)] == [0.5, 0.2]
    assert not [m for m in model.modules() if type(m) is nn.Dropout]
    x = torch.randn(2, 4)
    assert torch.equal(model[1].eval()(x), x)
    assert AttentionInterface()["sdpa"] is dropout.attention


def test_importing_it_changes_nothing_in_transformers() -> None:
    script = [
        "from transformers import AttentionInterface, integrations",
        "import peftbench.models.dropout, peftbench.run.worker",
        "assert AttentionInterface()['sdpa'] is integrations.sdpa_attention.sdpa_attention_forward",
    ]
    subprocess.run([sys.executable, "-c", "; ".join(script)], check=True, timeout=120)


def test_attention_is_ours_before_a_method_is_applied(cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """LoRA-GA computes gradients then."""

    class Loaded(Exception):
        pass

    def load(*_: object) -> None:
        raise Loaded

    prepared = cell()
    places = ResultStore(prepared.config.results_dir).places(prepared.config, prepared.key)
    monkeypatch.setattr(run.start_from, "load_model", load)
    transformers_compat.replace_sdpa(sdpa_attention_forward)
    with pytest.raises(Loaded):
        run.set_up(RunContext(prepared, places, [], lambda event: None))
    assert AttentionInterface()["sdpa"] is dropout.attention


@pytest.mark.parametrize("mask", ["none", "boolean", "additive", "causal"])
@pytest.mark.parametrize("bias", [False, True])
def test_attention_is_torchs(mask: str, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    module = nn.Identity()
    module.num_key_value_groups = 2
    query, key, value = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    allowed = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    allowed[0, :, :, 3:] = False
    masks = {"boolean": allowed, "additive": torch.where(allowed, 0.0, torch.finfo(torch.float32).min)}
    arguments = {"is_causal": mask == "causal", "position_bias": torch.randn(1, 4, 5, 5) if bias else None}
    expected, _ = sdpa_attention_forward(module, query, key, value, masks.get(mask), 0.0, None, **arguments)
    # Everything is kept: what is left is attention itself.
    monkeypatch.setattr(dropout, "_attention_dropout", lambda weights, p: weights)
    found, _ = dropout.attention(module, query, key, value, masks.get(mask), 0.1, None, **arguments)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(
        dropout.attention(module, query, key, value, masks.get(mask), 0.0, None, **arguments)[0], expected
    )


def test_a_fully_masked_row_stays_finite() -> None:
    query = torch.randn(1, 1, 2, 4)
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    out, _ = dropout.attention(nn.Identity(), query, query, query, nothing, 0.1)
    assert out.isfinite().all()


def test_a_training_step_uses_it(train, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = F.dropout

    def watched(x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
        assert not training, "torch's own dropout"
        return plain(x, p, training, inplace)

    monkeypatch.setattr(F, "dropout", watched)
    assert train("recipe.max_steps=2").status == "completed"
