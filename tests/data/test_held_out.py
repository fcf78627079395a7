"""Mixtures as text: templates drawn by row, answered examples in the prompt, caps, and what the record has."""

import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.config import compose
from peftbench.data.held_out import SHOTS, HeldOut, Shots
from peftbench.data.mixture import MixedBatches, MixtureDataModule
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.results.store import ResultStore
from peftbench.tasks.table import build as build_task

TEXT = ("dataset=mixture", "dataset.parts=[sst2,copa]", "formulation=text", "recipe.max_length=1500")
LLAMA = ("model=tiny_llama", "model.config.max_position_embeddings=1600")
HELD_OUT = ("dataset.held_out=[rte]", "dataset.held_out_shots=[0,2]")
FEW = ("recipe.train_samples=12", "recipe.eval_samples=6", "recipe.max_steps=2")


def data_of(prepared: Any) -> MixtureDataModule:
    task = build_task(prepared.config)
    data = MixtureDataModule(
        prepared.config,
        task,
        backbones.load_tokenizer(prepared.config.model, prepared.checkpoint),
        source=prepared.source,
        tokenizer_fingerprint="t",
        cache=ResultStore(prepared.config.results_dir).cache,
    )
    data.setup()
    return data


def shown(data: MixtureDataModule, name: str) -> list[str]:
    """The prompts of a slice, as text."""
    examples = data.slices[name]
    assert examples is not None
    starts = examples.offsets.tolist()
    return [
        data.tokenizer.decode(examples.tokens[a:b], skip_special_tokens=True)
        for a, b in zip(starts, starts[1:], strict=False)
    ]


@pytest.mark.parametrize("name", ["rte", "copa", "boolq", "multirc"])
def test_shots_never_contain_the_row_that_is_asked(made, name: str) -> None:
    """Scored on the very rows that the answered examples are drawn from."""
    held_out = [f"dataset.held_out=[{name}]", "dataset.held_out_shots=[2]"]
    prepared = made(*TEXT, "dataset.parts=[sst2,cola]", *held_out, *LLAMA)
    config = prepared.config
    (other,) = config.dataset.held_out
    module = HeldOut(
        replace(config, dataset=replace(other, evaluation=["train"])),
        build_task(config).parts[2],
        backbones.load_tokenizer(config.model, prepared.checkpoint),
        source=prepared.source.parts[name],
        tokenizer_fingerprint="t",
        cache=Path(config.results_dir),
    )
    shots = Shots(module, 2, seed=0)
    rows = module.rows.scored("train")
    assert set(shots.rows) <= set(rows)
    examples = module.rows.examples("train", rows)
    drawn = [shots.drawn(example) for example in examples]
    for example, others in zip(examples, drawn, strict=True):
        assert len(others) == 2
        assert all((o.fields, o.choices) != (example.fields, example.choices) for o in others)
        assert others[0].fields != others[1].fields or others[0].choices != others[1].choices
    assert len({tuple(o.row for o in others) for others in drawn}) > len(drawn) // 2
    assert [[o.row for o in Shots(module, 2, seed=0).drawn(e)] for e in examples[:5]] == [
        [o.row for o in others] for others in drawn[:5]
    ]
    first = shots.put_before(examples[0]).fields[SHOTS]
    for shot in drawn[0]:
        assert module.task.demonstration(shot, examples[0]) in first
        assert first.count(f"{module.task.right(shot)}\n\n") >= 1


def test_the_question_stands_last_and_its_answer_nowhere(made) -> None:
    data = data_of(made(*TEXT, *HELD_OUT, *FEW, *LLAMA))
    plain, with_shots = shown(data, "rte/validation"), shown(data, "rte/validation@2")
    for question, text in zip(plain, with_shots, strict=True):
        assert text.endswith(question)
        assert len(text) > len(question) + 20
        *solved, last = text.split("\n\n")
        assert last == question
        assert len(solved) == 2
        assert all(shot.endswith((" True", " False")) for shot in solved)


def test_a_template_is_drawn_by_row_and_seed(made) -> None:
    prepared = made(*TEXT, *LLAMA)
    task = build_task(prepared.config).parts[0]
    rows = [replace(e, row=i) for i in range(400) for e in [_example("a film")]]
    numbers = [task.phrasing.number(row) for row in rows]
    assert len(task.phrasing.templates) >= 5
    counts = Counter(numbers)
    assert set(counts) == set(range(len(task.phrasing.templates)))
    assert min(counts.values()) > 400 / len(counts) / 2
    assert numbers == [build_task(prepared.config).parts[0].phrasing.number(row) for row in rows]
    again = build_task(made(*TEXT, *LLAMA, "dataset.template_seed=1").config).parts[0]
    assert numbers != [again.phrasing.number(row) for row in rows]
    # Rows that are one question are asked in the same words.
    assert len({task.phrasing.number(replace(row, group=7)) for row in rows}) == 1
    # Neither the run's seed nor the method has a say.
    other = build_task(made(*TEXT, *LLAMA, "seed=3", "method=prefix").config).parts[0]
    assert numbers == [other.phrasing.number(row) for row in rows]


def _example(text: str) -> Any:
    from peftbench.data.examples import Example

    return Example(0, {"sentence": text}, 1)


def test_a_cap_limits_what_a_part_counts_for() -> None:
    lengths = torch.randint(4, 40, (1000,), generator=torch.Generator().manual_seed(1))
    sampler = MixedBatches(lengths, sizes=[900, 100], temperature=1, cap=150, batch_size=8, seed=0)
    first, second = ([i for batch in sampler for i in batch] for _ in range(2))
    for epoch in (first, second):
        assert len(epoch) == sampler.total == 250
        assert len([i for i in epoch if i < 900]) == len(set(i for i in epoch if i < 900)) == 150
        assert sorted(i for i in epoch if i >= 900) == list(range(900, 1000))
    # Each epoch draws others of the large part.
    assert set(first) != set(second)
    assert len(sampler) == 32 == len(list(sampler))
    # With T = 2: roots of 150 and 100.
    assert MixedBatches(lengths, sizes=[900, 100], temperature=2, cap=150, batch_size=8, seed=0).counts == [138, 112]


@pytest.mark.parametrize("model", [LLAMA, ("model=tiny_t5",)], ids=["tiny_llama", "tiny_t5"])
def test_the_record_has_every_part_trained_and_held_out(recorded, model: tuple[str, ...]) -> None:
    parts = "dataset.parts=[sst2,stsb,copa,wic,multirc,record]"
    record, places = recorded(*TEXT, parts, *HELD_OUT, *FEW, *model, "dataset.cap=10")
    assert record.status == "completed"
    names = {f"{name}/validation" for name in ("sst2", "stsb", "copa", "wic", "multirc", "record", "rte")}
    assert set(record.metrics) == {"train", "selection", *names, "rte/validation@2"}
    for name in (*names, "rte/validation@2"):
        part = name.partition("/")[0]
        declared = compose.one([f"dataset={part}"]).dataset.metrics
        assert set(record.metrics[name]["values"]) == set(declared)
    trained = [record.metrics[name]["score"] for name in names if not name.startswith("rte")]
    assert record.score == pytest.approx(statistics.fmean(trained))
    assert set(record.metrics["selection"]["values"]) == {"sst2", "stsb", "copa", "wic", "multirc", "record"}
    assert any("rte: held out, not trained on" in note for note in record.footnotes)
    assert record.metrics["rte/validation"]["rows_in_train"] is not None
    described = record.config["dataset"]
    assert [part["name"] for part in described["held_out"]] == ["rte"]
    assert len(described["held_out"][0]["templates"]) >= 5
    rows = pq.read_table(places.predictions).to_pylist()
    asked = {row["split"] for row in rows}
    assert asked == set(record.metrics)
    of_rte = [row for row in rows if row["split"] == "rte/validation@2"]
    assert {row["label_name"] for row in of_rte} <= {"entailment", "not_entailment"}


def test_a_trained_nothing_scores_the_held_out_too(recorded) -> None:
    record, _ = recorded(*TEXT, *HELD_OUT, *FEW, *LLAMA, "method=zero_shot")
    assert record.metrics["rte/validation@2"]["score"] is not None
    assert record.params["adapter"] == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["formulation=head", *HELD_OUT], "dataset.held_out: goes with formulation=text"),
        (["formulation=head", "dataset.chat=true"], "dataset.chat: goes with formulation=text"),
        (["dataset.held_out=[sst2]"], "dataset.held_out: sst2 is trained on too (dataset.parts)"),
        (["dataset.held_out=[nowhere]"], "dataset.parts: nowhere is no data set"),
        (["dataset.held_out_shots=[2]"], "dataset.held_out_shots: goes with dataset.held_out"),
        ([*HELD_OUT, "dataset.held_out_shots=[-1]"], "dataset.held_out_shots=[-1]"),
        (["dataset.cap=0"], "dataset.cap=0"),
        (["recipe.loss_on=words"], "recipe.loss_on=words: allowed is answer | all"),
    ],
)
def test_what_is_no_mixture_as_text_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose.one([*TEXT, *overrides])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_templates_belong_to_mixtures_as_text() -> None:
    with pytest.raises(ConfigError, match=r"dataset\.templates: are read of the files of a mixture's parts"):
        compose.one(["dataset=sst2", "dataset.templates=['{sentence} {answer}']"])
    assert compose.one(["dataset=sst2", "formulation=text"]).dataset.templates is None
    by_words = compose.one(["dataset=mixture", "dataset.parts=[sst2,cola]", "formulation=verbaliser"])
    assert all(part.templates is None for part in by_words.dataset.parts)


def test_too_long_shots_are_said_before_anything_is_trained(made) -> None:
    prepared = made(*TEXT, *HELD_OUT, *LLAMA, "recipe.max_length=260")
    with pytest.raises(ConfigError, match="dataset.held_out_shots=2: rte has too few training rows so short"):
        data_of(prepared)


def test_every_row_is_scored_once_with_shots_and_without(made) -> None:
    data = data_of(made(*TEXT, *HELD_OUT, *FEW, *LLAMA))
    without, with_shots = data.slices["rte/validation"], data.slices["rte/validation@2"]
    assert np.array_equal(without.rows, with_shots.rows)
    assert torch.equal(without.labels, with_shots.labels)
    assert data.epoch_examples == len(data.train) == 24
