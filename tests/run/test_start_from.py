"""Runs that start from what a finished one left."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.store import ResultStore
from peftbench.run import start_from
from peftbench.run.prepared import prepare
from peftbench.run.verify import problem_with
from peftbench.tasks.table import build as build_task
from tests.helpers.built import checkpoint
from tests.helpers.composed import composed


@pytest.fixture
def minilm(cell, tmp_path) -> list[str]:
    """A model with a checkpoint, not a random one: an adapter is of use only on the same base."""
    checkpoint(cell("method=full"), tmp_path / "all-MiniLM-L6-v2")
    return ["model=minilm", f"model_root={tmp_path}"]


@pytest.fixture
def finished(tiny, train, minilm):
    """A run that is recorded and keeps its weights: its record, and where that lies."""

    def go(*more: str):
        line = [*minilm, "recipe.max_steps=4", *more]
        config, record = composed(tiny(*line)), train(*line)
        return record, ResultStore(config.results_dir).put(config, record)

    return go


def loaded(found) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return start_from.load_model(found.config, found.checkpoint, build_task(found.config)).state_dict()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_untrained_it_answers_as_the_finished_run_did(finished, train, minilm, method: str) -> None:
    record, file = finished(f"method={method}", "method.lr=1e-2")
    plain = train(*minilm, "method=zero_shot")
    after = train(*minilm, "method=zero_shot", f"start_from={file}")
    expected, found = (r.metrics["validation"] for r in (record, after))
    assert found["score"] == expected["score"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert found["loss"] != pytest.approx(plain.metrics["validation"]["loss"], rel=1e-3)


def test_another_task_takes_all_but_the_head(finished, cell, minilm) -> None:
    _, file = finished("method=full", "method.lr=1e-2")
    before = loaded(cell(*minilm, "method=full", "dataset=mrpc"))
    after = loaded(cell(*minilm, "method=full", "dataset=mrpc", f"start_from={file}"))
    same = loaded(cell(*minilm, "method=full", f"start_from={file}"))
    for name, tensor in after.items():
        head = "classifier" in name
        assert torch.equal(tensor, before[name]) == head, name
        assert torch.equal(tensor, same[name]) != head, name


def test_what_it_starts_from_is_part_of_the_key_and_said(finished, train, tiny, minilm, tmp_path) -> None:
    record, file = finished("method=lora")

    def key(*more: str) -> str:
        return prepare(composed(tiny(*minilm, "dataset=mrpc", *more))).key

    first = key(f"start_from={file}")
    assert first not in (key(), record.key)
    elsewhere = Path(shutil.copytree(file.parents[4], tmp_path / "elsewhere"))
    assert key(f"start_from={elsewhere / file.relative_to(file.parents[4])}") == first
    after = train(*minilm, "dataset=mrpc", "recipe.max_steps=1", f"start_from={file}")
    assert f"mrpc: minilm starts from a run of lora on sst2 ({record.key})" in after.footnotes
    assert str(file) not in json.dumps(after.to_dict())
    assert after.environment["model_fingerprint"] != record.environment["model_fingerprint"]


def test_runs_that_do_not_fit_are_refused_before_anything_starts(finished, tiny, train, cell, minilm, tmp_path) -> None:
    def refusal(path: Path, *more: str) -> str:
        with pytest.raises(ConfigError) as refused:
            prepare(composed(tiny(*(more or minilm), "method=lora", f"start_from={path}")))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    record, lora = finished("method=lora")
    assert "the run is of model=minilm; allowed is one of model=tiny_roberta" in refusal(lora, "model=tiny_roberta")
    assert "allowed is a finished run's record" in refusal(tmp_path / "all-MiniLM-L6-v2")
    assert "allowed are a finished run's record" in refusal(tmp_path / "nothing.txt")
    _, prompt = finished("method=prompt")
    assert "prompt can't be folded into the weights" in refusal(prompt)
    _, second = finished("method=lora", f"start_from={lora}")
    assert "it was trained on another minilm" in refusal(second)
    shutil.rmtree(next((lora.parents[4] / "adapters").rglob(record.key)))
    assert "the run's weights weren't kept" in refusal(lora)


def test_a_run_that_lacks_weights_is_refused_before_anything_starts(finished, cell, minilm) -> None:
    def said(file: Path, *more: str) -> str:
        found = cell(*minilm, "method=lora", f"start_from={file}", *more)
        reason, not_applicable = problem_with(found.config, found.checkpoint) or ("nothing", False)
        assert not not_applicable
        return reason

    record, file = finished("method=full", "recipe.max_steps=1")
    assert said(file, "dataset=mrpc") == "nothing"
    assert said(file, "formulation=verbaliser") == "start_from: the run has no weights for cls.predictions.bias"
    shape = next((file.parents[4] / "adapters").rglob(record.key)) / "config.json"
    shape.write_text(json.dumps({**json.loads(shape.read_text()), "num_hidden_layers": 1}))
    assert said(file).startswith("start_from: the run has no weights for bert.encoder.layer.1.")
    text = json.loads(file.read_text())
    file.write_text(json.dumps({**text, "config": {**text["config"], "unheard": 1}}))
    with pytest.raises(ConfigError, match="start_from=.*its key isn't that of its configuration"):
        said(file)


def test_what_a_word_is_read_from_is_no_task_head(cell) -> None:
    def built(dataset: str, formulation: str):
        found = cell("model=tiny_modernbert", "method=full", f"dataset={dataset}", f"formulation={formulation}")
        task = build_task(found.config)
        weights = backbones.build_empty(found.config.model, found.checkpoint, task).state_dict()
        return found.config, task, weights

    for formulation, left in (("verbaliser", set()), ("head", {"head", "classifier"})):
        (here, task, mine), (there, _, theirs) = (built(dataset, formulation) for dataset in ("mrpc", "sst2"))
        taken = start_from._taken(mine, theirs, here, there, task)
        assert {name.split(".")[0] for name in mine if name not in taken} == left


def test_a_head_is_taken_where_its_outputs_mean_the_same() -> None:
    def answers(*more: str) -> tuple[str, object]:
        return start_from._answers(composed(["model=tiny_bert", *more]))

    assert answers("dataset=rte") == answers("dataset=qnli")
    assert answers("dataset=rte") != answers("dataset=mrpc")
    assert len({answers(f"dataset={name}") for name in ("copa", "stsb")}) == 2


def test_a_packed_base_cannot_start_elsewhere(finished, cell, minilm) -> None:
    pytest.importorskip("bitsandbytes", reason="the extra quantised isn't installed")
    _, file = finished("method=lora")
    found = cell(*minilm, "method=lora_int8", f"start_from={file}")
    assert problem_with(found.config, found.checkpoint) == (
        "start_from: not with method=lora_int8, whose base is packed",
        True,
    )


def test_a_record_that_lies_alone_has_no_weights_beside_it() -> None:
    assert ResultStore.weights_of(Path("/tmp/0.json")) is None
