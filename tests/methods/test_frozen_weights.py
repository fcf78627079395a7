"""Frozen weights in bfloat16 against the same weights in 32 bits, under autocast, of every method: answers, loss, every
gradient and what is saved, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peftbench.config import paths
from peftbench.errors import NotApplicable
from peftbench.methods import frozen_weights
from peftbench.models import dropout, frozen, one_position
from peftbench.run.prepared import PreparedRun
from peftbench.run.verify import problem_with
from tests.helpers.built import Built, shake
from tests.helpers.composed import trained
from tests.helpers.exactness import Result, result

MIXED = "hardware.precision=bf16-mixed"
MODELS = ["tiny_bert", "tiny_llama"]
#: Methods that read frozen weights themselves.
READERS = {"glora", "hira", "dora", "shira", "supertuning", "diff_pruning", "fish_mask", "sam_selection", "hiwi_weight"}
#: Those that train every linear layer, or pack it.
ALL = {"full", "galore", "lisa", "llrd", "distillation", "progressive_shrinking", "drop_layers"}
PACKED = {"qlora", "lora_int8"}
QUICK = ["lora", "bitfit", "houlsby", "prefix", "mica", "road", "oft"]


def test_the_cases_are_there() -> None:
    assert READERS | ALL | PACKED | set(QUICK) <= set(trained())
    assert set(MODELS) <= set(paths.choices("model"))


def _cases(quick: list[str]) -> list:
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [
        pytest.param(method, model, id=f"{method}-{model}", marks=[] if method in quick else rest)
        for model in MODELS
        for method in trained()
    ]


def _built(prepared: PreparedRun) -> Built:
    """The method as a run sets it up, moved off its start."""
    case = Built(prepared)
    shake(case.model, seed=1)
    dropout.install(case.model)
    if not case.method.needs_all_positions(case.model):
        one_position.install(case.model)
    return case


def _result(case: Built) -> Result:
    torch.manual_seed(5)
    return result(case, precision="bf16-mixed")


def _saved(case: Built, folder: Path) -> dict[str, bytes]:
    case.method.save(case.model, folder)
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(("method", "model"), _cases(QUICK))
def test_nothing_changes(cell, named, record_property, tmp_path: Path, method: str, model: str) -> None:
    words = named(method, model)
    try:
        case = _built(cell(*words, MIXED))
    except NotApplicable as reason:
        return record_property("not_applicable", str(reason))
    wanted = cell(*words, MIXED, "model.dtype=bf16").config
    if method in READERS | ALL | PACKED:
        return None  # `test_what_is_refused` has them.
    case.model.eval()
    whole, again, saved = _result(case), _result(case), _saved(case, tmp_path / "whole")
    frozen_weights.store(case.model, wanted, case.method)
    rounded = [p for p in case.model.parameters() if p.dtype == torch.bfloat16]
    assert rounded
    assert not any(p.requires_grad for p in rounded)
    # CPT on a CPU adds its gradients up in any order.
    assert max(_result(case).off(whole).values()) <= 2 * max(again.off(whole).values())
    assert _saved(case, tmp_path / "rounded") == saved
    case.model.train()
    assert torch.isfinite(_result(case).loss)
    merged = case.method.merge(case.model)
    if merged is not None:
        with torch.autocast("cpu", torch.bfloat16):
            off = (case.logits(merged) - case.logits()).abs().max() / case.logits().abs().max()
        assert off < 0.2
        assert {p.dtype for p in merged.parameters()} == {torch.bfloat16, torch.float32}
    return None


@pytest.mark.parametrize(
    ("method", "model"), [(method, model) for model in MODELS for method in sorted(READERS | ALL | PACKED)]
)
def test_what_is_refused(cell, named, record_property, method: str, model: str) -> None:
    """In one line, before anything is loaded where the method can be tried without weights."""
    words = [*named(method, model), MIXED]
    if (problem := problem_with(cell(*words).config, cell(*words).checkpoint)) is not None:
        return record_property("not_applicable", problem[0])
    prepared = cell(*words, "model.dtype=bf16")
    before = problem_with(prepared.config, prepared.checkpoint)
    if before is None:
        case = Built(prepared)
        with pytest.raises(NotApplicable) as raised:
            frozen_weights.store(case.model, prepared.config, case.method)
        message = str(raised.value)
    else:
        message, not_applicable = before
        assert not_applicable
    why = "packed weights" if method in PACKED else "reads frozen weights" if method in READERS else "nothing to round"
    assert why in message
    assert "allowed is null" in message
    assert "\n" not in message
    return None


@pytest.mark.parametrize("method", sorted(READERS))
def test_readers_read(cell: Callable[..., PreparedRun], named, method: str) -> None:
    """A method that is refused for nothing would be a loss."""
    case = _built(cell(*named(method, "tiny_bert"), MIXED))
    case.model.eval()
    whole = _result(case)
    frozen.store(frozen.frozen(case.model, case.config.model.head).values())
    assert max(_result(case).off(whole).values()) > 1e-4


@pytest.mark.parametrize("model", [m for m in paths.choices("model") if m.startswith("tiny_")])
def test_every_architecture(cell: Callable[..., PreparedRun], model: str) -> None:
    case = _built(cell("method=lora", f"model={model}", MIXED))
    case.model.eval()
    whole = _result(case)
    names = frozen.frozen(case.model, case.config.model.head)
    assert len(names) >= 8
    frozen.store(names.values())
    assert max(_result(case).off(whole).values()) == 0
