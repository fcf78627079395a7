"""Whole runs with `model.dtype=bf16`: the same losses, score and adapter as without, and less memory."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from peftbench.config import identity
from peftbench.errors import ConfigError
from peftbench.results.store import ResultStore
from peftbench.run import run
from peftbench.run.context import RunContext
from peftbench.run.estimate import cells
from peftbench.run.prepared import PreparedRun
from peftbench.run.verify import problem_with
from tests.helpers import on_ranks
from tests.helpers.composed import composed
from tests.helpers.on_ranks import Watch

MIXED, ROUNDED = "hardware.precision=bf16-mixed", "model.dtype=bf16"


def _context(prepared: PreparedRun) -> RunContext:
    places = ResultStore(prepared.config.results_dir).places(prepared.config, prepared.key)
    return RunContext(prepared, places, [], lambda event: None)


@pytest.mark.parametrize("more", [[], ["model=tiny_llama", "hardware.gradient_checkpointing=true"]])
def test_a_run_is_the_same_but_for_its_memory(at, more: list[str]) -> None:
    """The model has dropout: a random number too many or too few would be seen."""
    contexts = [
        _context(at(name, MIXED, "measure_s=60", *words, *more))
        for name, words in (("whole", []), ("rounded", [ROUNDED]))
    ]
    whole, rounded = (run.run(context) for context in contexts)
    assert rounded.status == "completed"
    for name, split in whole.metrics.items():
        other = rounded.metrics[name]
        assert {k: v for k, v in split.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
    assert (whole.selected_step, whole.params) == (rounded.selected_step, rounded.params)
    before, after = (record.efficiency or {} for record in (whole, rounded))
    assert after["weights_bytes"] < 0.75 * before["weights_bytes"]
    assert after["memory_parts_bytes"]["weights_frozen"] < 0.75 * before["memory_parts_bytes"]["weights_frozen"]
    assert all(after[f"inference_samples_per_s{variant}"] for variant in ("", "_merged", "_base"))
    assert not [note for note in rounded.footnotes if "speed" in note]
    files = [_files(context.places.adapter) for context in contexts]
    assert files[0] == files[1] != {}


def _files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*.safetensors")}


def test_all_that_is_rounded_and_nothing_else(cell) -> None:
    tuner, _ = run.set_up(_context(cell("method=lora", "model=tiny_llama", MIXED, ROUNDED)))
    kinds = {name: p.dtype for name, p in tuner.model.named_parameters()}
    rounded = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    assert len(rounded) == 2 * 7  # Of each layer q, k, v, o and the feed-forward block's three.
    assert not any("lora_" in name or "embed" in name or "norm" in name or "score" in name for name in rounded)


@pytest.mark.parametrize(("model", "tied"), [("tiny_gpt2", True), ("tiny_llama", False)])
def test_tied_output_layers_stay(cell, model: str, tied: bool) -> None:
    tuner, _ = run.set_up(_context(cell("method=lora", f"model={model}", MIXED, ROUNDED, "formulation=verbaliser")))
    adapted: Any = tuner.model
    plain = adapted.get_base_model()
    is_shared = plain.get_input_embeddings().weight is plain.get_output_embeddings().weight
    assert is_shared == tied
    assert plain.get_input_embeddings().weight.dtype == torch.float32
    assert plain.get_output_embeddings().weight.dtype == (torch.float32 if tied else torch.bfloat16)


def test_the_base_beside_it_is_rounded_too(cell, monkeypatch: pytest.MonkeyPatch) -> None:
    context = _context(cell("method=linear_probe", MIXED, ROUNDED))
    tuner, data = run.set_up(context)
    bases: list[torch.nn.Module] = []

    def measure(tuner: Any, base: torch.nn.Module, *_: Any, **__: Any) -> Any:
        bases.append(base)
        return {}, []

    monkeypatch.setattr("peftbench.run.speed.measure", measure)
    trainer: Any = type("Trainer", (), {"precision_plugin": type("Plugin", (), {"forward_context": None})})
    run.measure_speed(context, tuner, data, trainer)
    counts = [sum(p.dtype == torch.bfloat16 for p in model.parameters()) for model in (tuner.model, *bases)]
    assert counts[0] == counts[1] > 0


def test_stopped_and_taken_up_again_it_ends_where_it_would_have(at) -> None:
    words = ["method=lora", MIXED, ROUNDED]
    whole, first = (
        on_ranks.follow(at("a", *words), watch := Watch(None)),
        on_ranks.follow(at("b", *words), cut := Watch(3)),
    )
    second = on_ranks.follow(at("b", *words), rest := Watch(None))
    assert "goes on from there" in first.said
    assert watch.losses == {**cut.losses, **rest.losses}
    ends = [dict(followed.tuner.model.named_parameters()) for followed in (whole, second)]
    assert all(torch.equal(p, ends[1][name]) and p.dtype == ends[1][name].dtype for name, p in ends[0].items())


def test_an_estimate_has_the_bytes_of_the_run(cell) -> None:
    words = ["method=lora", "model=tiny_bert", MIXED]
    sizes = []
    for more in ([], [ROUNDED]):
        prepared = cell(*words, *more)
        estimated, _, _ = cells.build(prepared.config)
        made, _ = run.set_up(_context(prepared))
        sizes.append([sum(p.nbytes for p in tuner.model.parameters()) for tuner in (estimated, made)])
        assert sizes[-1][0] == sizes[-1][1]
    assert sizes[1][0] < sizes[0][0]


def test_it_is_part_of_the_key_only_where_it_is_set() -> None:
    plain, rounded = composed([MIXED]), composed([MIXED, ROUNDED])
    assert "dtype" not in identity.identity(plain)["model"]
    assert identity.identity(rounded)["model"]["dtype"] == "bf16"
    assert identity.identity(dataclasses.replace(rounded, model=plain.model)) == identity.identity(plain)


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["model.dtype=fp16", MIXED], "model.dtype=fp16: allowed is bf16"),
        ([ROUNDED], "model.dtype=bf16: allowed is null with hardware.precision=32-true"),
        (
            [ROUNDED, MIXED, "hardware.devices=2", "hardware.strategy=fsdp"],
            "model.dtype=bf16: allowed is null with hardware.strategy=fsdp",
        ),
    ],
)
def test_what_is_refused(words: list[str], allowed: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed(words)
    assert str(raised.value) == allowed


def test_baselines_take_it(cell) -> None:
    for method in ("zero_shot", "majority"):
        prepared = cell(f"method={method}", MIXED, ROUNDED)
        assert problem_with(prepared.config, prepared.checkpoint) is None
        run.set_up(_context(prepared))
