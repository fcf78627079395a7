"""Every task type from rows to scores by a head or by label words, on tiny models of three families."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.config import formulations
from peftbench.data.batch import part
from peftbench.data.readers import READERS
from peftbench.errors import ConfigError, NotApplicable
from peftbench.tasks import table
from peftbench.tasks.instructions import TextMixture
from peftbench.tasks.mixture import Mixture
from peftbench.tasks.table import build as build_task
from tests.helpers import hub_sets
from tests.helpers.built import Built
from tests.helpers.composed import written
from tests.helpers.hub_runs import ONE_EACH

SUITES = [
    name
    for name, file in written("dataset").items()
    if (file.get("path") or "").split("/")[-1] in {folder for folder, _ in hub_sets.SETS}
]


def test_every_task_type_has_a_reader_a_way_and_a_data_set() -> None:
    # A mixture's rows are read by its parts' readers.
    assert {type_ for type_, way in table.TASKS if table.TASKS[type_, way] not in (Mixture, TextMixture)} == set(
        READERS
    )
    assert set(ONE_EACH) <= set(READERS)
    assert len(ONE_EACH) >= 5


@pytest.mark.parametrize("name", SUITES)
def test_every_set_of_the_suites_is_read_as_the_hub_has_it(made, name: str) -> None:
    case = Built(made(f"dataset={name}", "method=full"))
    data = case.config.dataset
    assert all(case.data.slices[split] is not None for split in data.evaluation)
    assert len(case.data.train) > 0
    assert case.logits().isfinite().all()


#: What the default run tries each way on; the others are in the slow tier.
_QUICK = {"head": "tiny_bert", "verbaliser": "tiny_llama"}
WAYS = [
    pytest.param(name, model, way, marks=() if model == _QUICK[way] else pytest.mark.slow)
    for type_, name in ONE_EACH.items()
    for of, way in table.TASKS
    if of == type_ and way != "text"
    for model in ("tiny_bert", "tiny_llama", "tiny_t5")
]


@pytest.mark.parametrize(("name", "model", "way"), WAYS)
def test_a_task_type_end_to_end(recorded, name: str, model: str, way: str) -> None:
    record, places = recorded(f"dataset={name}", f"model={model}", f"formulation={way}", "recipe.epochs=1")
    split = record.metrics[record.config["dataset"]["evaluation"][0]]
    assert set(split["values"]) == set(record.config["dataset"]["metrics"])
    assert all(value is not None for value in split["values"].values())
    kept = pq.read_table(places.predictions).to_pylist()
    assert {row["split"] for row in kept} == {name for name, value in record.metrics.items() if value is not None}
    assert record.efficiency["inference_samples_per_s"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model", "way"),
    [
        ("stsb", "tiny_bert", "head"),
        ("copa", "tiny_bert", "head"),
        ("copa", "tiny_llama", "verbaliser"),
        ("wic", "tiny_llama", "verbaliser"),
        ("record", "tiny_bert", "head"),
        ("multirc", "tiny_llama", "head"),
    ],
)
def test_one_batch_is_learnt_by_heart(made, name: str, model: str, way: str) -> None:
    """The loss that falls is the one that decides: the answers come out right."""
    found = made(f"dataset={name}", f"model={model}", f"formulation={way}", "method=full", "method.lr=3e-3")
    case = Built(found)
    case.batch = case.data.train.collate(range(8))
    losses = case.train(60)
    assert losses[-1] < 0.3 * losses[0]
    answers = case.task.decide(case.logits().numpy())
    assert np.abs(answers - case.batch["labels"].numpy()).mean() < 0.3


def test_hidden_labels_are_answered_and_not_scored(recorded) -> None:
    record, places = recorded("dataset=ax")
    assert record.status == "completed"
    assert record.score is None
    assert record.metrics["test"]["values"] == {"matthews": None}
    assert record.metrics["test"]["score"] is record.metrics["test"]["loss"] is None
    assert "ax: the labels of test are hidden; its predictions are kept and not scored" in record.footnotes
    assert sum(row["split"] == "test" for row in pq.read_table(places.predictions).to_pylist()) == 24


def test_hidden_labels_cannot_be_trained_on(made) -> None:
    with pytest.raises(ConfigError, match="ax/test has no labels"):
        made("dataset=ax", "dataset.train=test", "dataset.train_config=null", "dataset.evaluation=[test]")


def test_a_diagnostic_set_is_trained_on_anothers_train_split(made, hub_root: Path) -> None:
    case = Built(made("dataset=axb", "method=full"))
    theirs = pq.read_table(next((hub_root / "super_glue" / "rte").glob("train-*"))).to_pydict()
    i = 5
    ids = case.data.train.tokens[case.data.train.offsets[i] : case.data.train.offsets[i + 1]]
    row = int(case.data.train.rows[i])
    assert theirs["premise"][row] in case.data.tokenizer.decode(ids)
    assert theirs["hypothesis"][row] in case.data.tokenizer.decode(ids)


def test_mnli_reports_both_and_scores_the_matched(recorded) -> None:
    record, _ = recorded("dataset=mnli")
    assert record.score == record.metrics["validation_matched"]["score"]
    assert record.metrics["validation_mismatched"]["n"] == 24


class TestBatches:
    """Several sequences an example: counted, cut and batched by example."""

    @pytest.mark.parametrize("way", ["head", "verbaliser"])
    @pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama", "tiny_t5"])
    def test_neighbours_change_no_answer(self, made, model: str, way: str) -> None:
        case = Built(made("dataset=copa", "method=full", f"model={model}", f"formulation={way}"))
        together = case.logits(batch=case.data.train.collate(range(12)))
        for i in (0, 7, 11):
            assert torch.allclose(together[i], case.logits(batch=case.data.train.collate([i]))[0], atol=1e-5)

    def test_a_part_holds_whole_examples(self, made) -> None:
        case = Built(made("dataset=copa", "method=full"))
        batch, alone = case.data.train.collate([3, 1, 4, 0]), case.data.train.collate([1, 4])
        found = part(batch, 1, 3)
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[k], alone[k]) for k in alone)

    def test_choices_may_vary_in_number(self, made, tmp_path: Path) -> None:
        counts = [2 + i % 3 for i in range(60)]
        columns = {
            "question": [f"which of {n}" for n in counts],
            "choices": [[f"it is {c}" for c in range(n)] for n in counts],
            "answer": [n - 1 for n in counts],
        }
        for split in ("train", "validation"):
            pq.write_table(pa.table(columns), tmp_path / f"{split}.parquet")
        case = Built(
            made(
                "dataset=parquet", f"dataset.train_file={tmp_path}/train.parquet", "method=full",
                f"dataset.validation_file={tmp_path}/validation.parquet", "dataset.text=[question]",
                "+dataset.choices=[choices]", "dataset.label=answer", "dataset.task=multiple_choice",
                "dataset.inputs=['{question}','{choice}']",
            )
        )  # fmt: skip
        batch = case.data.train.collate(range(6))
        logits, sizes = case.logits(batch=batch), batch["sequences"]
        assert logits.shape == (6, 4)
        assert torch.equal(logits.isfinite().sum(dim=1), sizes)
        assert torch.isfinite(case.task.losses(case.tuner(batch), batch)).all()
        with torch.no_grad():
            kept = [case.tuner.eval().predict(case.data.train.collate([i])) for i in range(len(case.data.train))]
        assert case.tuner.scores(kept, case.data.train)["n"] == len(case.data.train)

    def test_likelihood_is_the_mean_log_probability_of_the_choice(self, made) -> None:
        """By hand, one choice at a time."""
        case = Built(made("dataset=copa", "method=full", "model=tiny_llama", "formulation=verbaliser"))
        batch = case.data.train.collate([2])
        found = case.logits(batch=batch)[0]
        for j in range(2):
            ids = batch["input_ids"][j][batch["attention_mask"][j].bool()].tolist()
            answer = [t for t in batch["targets"][j].tolist() if t >= 0]
            with torch.no_grad():
                logits = case.model.eval()(input_ids=torch.tensor([ids + answer])).logits[0].log_softmax(-1)
            each = [logits[len(ids) - 1 + k, token].item() for k, token in enumerate(answer)]
            assert found[j].item() == pytest.approx(np.mean(each), abs=1e-4)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=copa", "dataset.choices=null"], "dataset.choices: multiple_choice needs"),
        (["dataset=copa", "dataset.choices=[choice9]"], "dataset.columns=choice9: copa/train has no such column"),
        (["dataset=copa", "dataset.choices=[premise,idx]"], "dataset.choices=idx: copa/train holds int32, not text"),
        (["dataset=copa", "~dataset.phrases.question.effect"], "copa/train row 2 has 'effect'; allowed are cause"),
        (["dataset=copa", "formulation=text"], "an encoder writes no text"),
        (["dataset=copa", "dataset.cut=[choice1]"], "dataset.cut=choice1: allowed: premise, question"),
        (["dataset=copa", "dataset.inputs=['{premise}']"], "dataset.inputs: leaves out question"),
        (["dataset=copa", "dataset.inputs=['{premises}']"], "dataset.inputs: takes {premise}, {question}, {choice}"),
        (["dataset=multirc", "dataset.group=null"], "dataset.group: multi_row needs"),
        (["dataset=multirc", "dataset.group=[idx.word]"], "idx.word: multirc/train has no such field"),
        (["dataset=record", "dataset.answers=null"], "dataset.candidates: needs dataset.answers"),
        (["dataset=record", "dataset.answers=query"], "dataset.candidates=query: record/train row 0 has no list"),
        (["dataset=record", "dataset.placeholder=@gap"], "dataset.placeholder=@gap: record/train row 0 has none"),
        (["dataset=wic", "dataset.spans=null"], "dataset.spans: span_pair needs"),
        (["dataset=stsb", "dataset.label=sentence1"], "dataset.label=sentence1: stsb/train row 0 has"),
        (["dataset=stsb", "dataset.label=null"], "dataset.label: regression needs the column"),
        (["dataset=rte", "dataset.task=regresion"], "dataset.task=regresion: nearest: regression"),
        (["dataset=rte", "dataset.labels=null"], "dataset.labels: classification needs the labels' names"),
        (
            ["dataset=multirc", "dataset.text=[paragraph,answer]", "dataset.columns=null", "formulation=verbaliser"],
            "can't be a column's",
        ),
    ],
)  # fmt: skip
def test_a_wrong_data_set_is_said_in_one_line(made, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_task(made(*overrides).config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_method_of_label_words_does_not_fit_numbers(made) -> None:
    with pytest.raises(NotApplicable, match="works with formulation=verbaliser; dataset=stsb"):
        formulations.formulation(made("dataset=stsb", "model=tiny_llama", "method=cpt").config)


@pytest.mark.parametrize(("name", "fits"), [("stsb", True), ("cb", True), ("copa", False)])
def test_the_majority_of_a_task(made, name: str, fits: bool) -> None:
    if not fits:
        with pytest.raises(NotApplicable, match="has no classes"):
            Built(made(f"dataset={name}", "method=majority"))
        return
    case = Built(made(f"dataset={name}", "method=majority"))
    labels = case.data.train.labels
    expected = labels.mean() if name == "stsb" else labels.mode().values
    assert (case.task.decide(case.logits().numpy()) == expected.item()).all()
