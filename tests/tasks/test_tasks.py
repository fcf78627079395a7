"""Every task type from rows to scores, on made-up data in the hub's layout and tiny models of three families."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv  # noqa: F401
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.config import compose, formulations
from peftbench.data.encode import part
from peftbench.data.examples import Example
from peftbench.data.readers import READERS, reader
from peftbench.errors import ConfigError, NotApplicable
from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from peftbench.tasks import table
from peftbench.tasks.fitting import Posed, fit
from peftbench.tasks.mixture import Mixture
from peftbench.tasks.table import build as build_task
from tests.helpers import hub_sets
from tests.helpers.built import Built
from tests.helpers.composed import composed, written

#: A data set of every task type: the types are enumerated, and each must have one.
ONE_EACH = {file["task"]: name for name, file in sorted(written("dataset").items(), reverse=True) if file.get("suite")}
SUITES = [
    name
    for name, file in written("dataset").items()
    if (file.get("path") or "").split("/")[-1] in {folder for folder, _ in hub_sets.SETS}
]
TINY = ["recipe.epochs=2", "recipe.batch_size=8", "recipe.max_length=120"]


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    hub_sets.write_all(root)
    return root


@pytest.fixture
def made(hub_root: Path, results: Path) -> Callable:
    return lambda *more: prepare(
        composed(["model=tiny_bert", *TINY, f"data_root={hub_root}", f"results_dir={results}", *more])
    )


@pytest.fixture
def train(made: Callable, results: Path) -> Callable:
    def go(*more: str):
        found = made(*more)
        places = ResultStore(results).places(found.config, found.key)
        record = run(RunContext(found, places, [], lambda event: None))
        return record, places

    return go


def test_every_task_type_has_a_reader_a_way_and_a_data_set() -> None:
    # A mixture's rows are read by its parts' readers.
    assert {type_ for type_, way in table.TASKS if table.TASKS[type_, way] is not Mixture} == set(READERS)
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
def test_a_task_type_end_to_end(train, name: str, model: str, way: str) -> None:
    record, places = train(f"dataset={name}", f"model={model}", f"formulation={way}", "recipe.epochs=1")
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


def test_hidden_labels_are_answered_and_not_scored(train) -> None:
    record, places = train("dataset=ax")
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


def test_mnli_reports_both_and_scores_the_matched(train) -> None:
    record, _ = train("dataset=mnli")
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


class TestMultiRow:
    def test_questions_are_drawn_whole(self, made, hub_root: Path) -> None:
        case = Built(made("dataset=multirc", "method=full", "recipe.eval_samples=10"))
        for name in ("selection", "validation"):
            rows = case.data.slices[name].rows.tolist()
            assert len(rows) % 4 == 0
            assert len(rows) <= 10
            assert all({4 * (row // 4) + k for k in range(4)} <= set(rows) for row in rows)

    def test_a_querys_answer_is_its_likeliest_candidate(self, made) -> None:
        case = Built(made("dataset=record", "method=full"))
        examples = case.data.slices["validation"]
        right = examples.labels.numpy()
        perfect = np.stack([1.0 - right, right], axis=1) + np.random.default_rng(0).normal(0, 0.01, (len(right), 2))
        assert case.task.score(perfect, examples) == {"record_f1": 1.0, "record_em": 1.0}
        assert case.task.score(-perfect, examples)["record_em"] == 0.0

    def test_em_wants_every_answer_of_a_question(self, made) -> None:
        case = Built(made("dataset=multirc", "method=full"))
        examples = case.data.slices["validation"]
        right = examples.labels.numpy()
        logits = np.stack([1.0 - right, right], axis=1)
        assert case.task.score(logits, examples) == {"f1a": 1.0, "em": 1.0}
        logits[0] = logits[0][::-1]
        assert case.task.score(logits, examples)["em"] == pytest.approx(1 - 1 / 6)


class TestMarks:
    def test_words_are_marked_where_they_are(self, made) -> None:
        case = made("dataset=wsc")
        table = pa.Table.from_pylist(
            [
                {
                    "text": "The old man met Bob, for he was late.",
                    "span1_index": 0, "span1_text": "the old man", "span2_index": 6, "span2_text": "He", "label": 1,
                }
            ]
        )  # fmt: skip
        example = reader(case.config.dataset).examples(table, np.array([0]))[0]
        assert example.fields["text"] == "* The old man * met Bob, for # he # was late."
        start, end = example.kept["text"]
        assert example.fields["text"][start:end] == "* The old man * met Bob, for # he #"
        assert (example.fields["span1"], example.fields["span2"]) == ("The old man", "he")

    @pytest.mark.parametrize("model", ["tiny_bert", "tiny_gpt2", "tiny_t5"])
    def test_a_cut_leaves_the_marked_word(self, made, model: str) -> None:
        case = Built(made("dataset=wic", "method=full", f"model={model}"))
        text = "before it all " * 9 + "* people *" + " after it was all over" * 9
        kept = {"sentence1": (text.index("*"), text.rindex("*") + 1), "sentence2": (0, 15)}
        example = Example(
            0, {"sentence1": text, "sentence2": "some * people *", "span1": "", "span2": ""}, 0, kept=kept
        )
        encoded = case.task.encode(case.context.tokenizer, [example], 60)
        written = case.context.tokenizer.decode(encoded.input_ids[0])
        assert len(encoded.input_ids[0]) <= 60
        assert encoded.cut == 1
        assert "* people *" in written
        assert "some * people *" in written

    def test_a_word_that_is_not_there_is_named(self, made, hub_root: Path, tmp_path: Path) -> None:
        hub_sets.write(tmp_path, {"train": 12, "validation": 12}, folder="super_glue", config="wic")
        file = next((tmp_path / "super_glue" / "wic").glob("train-*"))
        table = pq.read_table(file)
        ends = pa.array([6] * 11 + [60], pa.int32())
        pq.write_table(table.set_column(table.column_names.index("end1"), "end1", ends), file)
        with pytest.raises(ConfigError, match="dataset.spans: wic/train row 11: no such word in sentence1"):
            made("dataset=wic", f"data_root={tmp_path}")


_QUESTION = "who was it that did so, and when, and where, and why, and with whose help did it happen"


class TestCutting:
    @pytest.mark.parametrize(
        ("name", "long", "others"),
        [
            ("boolq", "passage", {"question": _QUESTION}),
            ("qnli", "sentence", {"question": _QUESTION}),
            ("multirc", "paragraph", {"question": _QUESTION, "candidate": "no"}),
            ("record", "passage", {"query": _QUESTION}),
        ],
    )
    @pytest.mark.parametrize("way", ["head", "verbaliser"])
    def test_the_passage_is_cut_and_the_question_is_not(self, made, name: str, long: str, others, way: str) -> None:
        """Even where the question is longer than what is left of the passage."""
        config = made(f"dataset={name}", f"formulation={way}").config
        task = build_task(config)
        case = Built(made("dataset=mrpc", "method=full"))
        task.prepare(case.context.tokenizer)
        fields = {**others, long: "word " * 60, **({"candidate": "Ann"} if name == "record" else {})}
        encoded = task.encode(case.context.tokenizer, [Example(0, fields)], 160)
        text = case.context.tokenizer.decode(encoded.input_ids[0])
        assert encoded.cut == 1
        assert len(encoded.input_ids[0]) <= 160
        assert all(value in text for value in others.values())
        assert "word word" in text

    def test_the_longest_are_levelled(self, made) -> None:
        tokenizer = Built(made("dataset=mrpc", "method=full")).context.tokenizer
        fields = {"a": "x" * 90, "b": "y" * 50, "c": "z" * 10}
        lines, cut = fit(
            tokenizer, [Posed(fields)], beside=[0], cuttable=list(fields), max_length=100,
            render=lambda many: {"input_ids": [tokenizer("".join(f.values()))["input_ids"] for f in many]},
        )  # fmt: skip
        text = tokenizer.decode(lines["input_ids"][0], skip_special_tokens=True)
        assert cut == {0}
        assert (text.count("x"), text.count("y"), text.count("z")) == (44, 44, 10)

    def test_what_may_not_be_cut_and_does_not_fit_is_said(self, made) -> None:
        case = Built(made("dataset=boolq", "method=full"))
        fields = {"question": "why " * 60, "passage": "because"}
        with pytest.raises(ConfigError, match="recipe.max_length=50: what isn't cut alone takes"):
            case.task.encode(case.context.tokenizer, [Example(0, fields)], 50)

    def test_characters_of_several_tokens_are_cut_too(self, made) -> None:
        case = Built(made("dataset=mrpc", "method=full"))
        fields = {"sentence1": "é😀" * 40, "sentence2": "ж" * 40}
        encoded = case.task.encode(case.context.tokenizer, [Example(0, fields)], 50)
        assert 40 < len(encoded.input_ids[0]) <= 50

    def test_what_was_cut_is_in_the_record_for_every_split(self, train) -> None:
        record, _ = train("dataset=boolq", "recipe.max_length=60", "recipe.epochs=1")
        assert 0 < record.samples["truncated"] <= record.samples["examples"]
        assert all(0 < record.metrics[name]["truncated"] <= 24 for name in ("selection", "validation"))


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


class TestShots:
    @pytest.mark.parametrize("name", ["cb", "wic", "mnli"])
    def test_so_many_of_each_class(self, made, name: str) -> None:
        case = Built(made(f"dataset={name}", "method=full", "recipe=fewshot", "recipe.shots=4"))
        for examples in (case.data.train, case.data.slices["selection"]):
            assert set(examples.labels.bincount().tolist()) == {4}
        assert not set(case.data.train.rows.tolist()) & set(case.data.slices["selection"].rows.tolist())

    @pytest.mark.parametrize(("name", "examples"), [("copa", 4), ("stsb", 4), ("multirc", 16), ("record", 16)])
    def test_so_many_where_there_are_no_classes(self, made, name: str, examples: int) -> None:
        case = Built(made(f"dataset={name}", "method=full", "recipe=fewshot", "recipe.shots=4"))
        assert len(case.data.train) == len(case.data.slices["selection"]) == examples

    def test_its_seed_draws_and_the_runs_does_not(self, made) -> None:
        def rows(*more: str) -> list[int]:
            found = made("dataset=cb", "method=full", "recipe=fewshot", "recipe.shots=4", *more)
            return Built(found).data.train.rows.tolist()

        assert rows() == rows("seed=1")
        assert rows() != rows("recipe.shots_seed=1")

    def test_too_few_are_said(self, made) -> None:
        with pytest.raises(ConfigError, match="recipe.shots=16: cb has 16 of one kind, and 32 are needed"):
            Built(made("dataset=cb", "method=full", "recipe=fewshot"))
        case = Built(made("dataset=cb", "method=full", "recipe=fewshot", "recipe.selection=last"))
        assert len(case.data.train) == 48

    def test_it_runs_and_says_so(self, train) -> None:
        record, _ = train("dataset=cb", "recipe=fewshot", "recipe.shots=4", "recipe.max_steps=4", "recipe.eval_steps=2")
        assert record.samples["train"] == 12
        assert "cb: 4 training examples a class, drawn with seed 0" in record.footnotes


class TestOwnFiles:
    @pytest.fixture
    def files(self, tmp_path: Path) -> Callable:
        def write(kind: str, columns: dict, folder: str = "mine", rows: int = 40) -> list[str]:
            (tmp_path / folder).mkdir(exist_ok=True)
            names = []
            for split in ("reviews", "dev"):
                file = tmp_path / folder / f"{split}.{kind}"
                table = pa.table({k: v[:rows] for k, v in columns.items()})
                if kind == "csv":
                    pa.csv.write_csv(table, file)
                elif kind == "jsonl":
                    file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
                else:
                    pq.write_table(table, file)
                names.append(str(file))
            return [f"dataset={kind}", f"dataset.train_file={names[0]}", f"dataset.validation_file={names[1]}"]

        return write

    TEXTS = [f"it was {'awful' if i % 2 else 'superb'}, number {i}" for i in range(40)]

    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    def test_labels_are_found_in_the_file(self, train, files, kind: str) -> None:
        columns = {"review": self.TEXTS, "mark": ["bad" if i % 2 else "good" for i in range(40)]}
        record, _ = train(*files(kind, columns), "dataset.text=[review]", "dataset.label=mark", "recipe.epochs=1")
        assert record.config["dataset"]["labels"] == ["bad", "good"]
        assert record.config["dataset"]["name"] == "reviews"
        assert record.config["dataset"]["metrics"] == {"accuracy": "max"}
        assert "train_file" not in record.config["dataset"]
        assert record.metrics["validation"]["n"] == 40

    def test_numbers_that_are_no_indices_are_names(self, made, files) -> None:
        columns = {"review": self.TEXTS, "stars": [1 + i % 5 for i in range(40)]}
        found = made(*files("csv", columns), "dataset.text=[review]", "dataset.label=stars")
        assert found.config.dataset.labels == ["1", "2", "3", "4", "5"]
        assert Built(found).data.train.labels.max() == 4

    def test_indices_with_names_given(self, made, files) -> None:
        columns = {"review": self.TEXTS, "y": [i % 2 for i in range(40)]}
        found = made(*files("csv", columns), "dataset.text=[review]", "dataset.label=y", "dataset.labels=[neg,pos]")
        assert Built(found).data.train.labels.bincount().tolist() == [18, 18]

    def test_text_that_looks_like_numbers_is_text(self, made, files) -> None:
        columns = {"code": [str(i) for i in range(40)], "y": [i % 2 for i in range(40)]}
        assert made(*files("csv", columns), "dataset.text=[code]", "dataset.label=y")

    def test_regression_pairs_and_choices(self, train, files) -> None:
        columns = {"a": self.TEXTS, "b": self.TEXTS[::-1], "y": [i / 7 for i in range(40)]}
        line = [*files("jsonl", columns), "dataset.text=[a,b]", "dataset.label=y", "recipe.epochs=1"]
        record, _ = train(*line, "dataset.task=regression")
        assert set(record.metrics["validation"]["values"]) == {"pearson", "spearman"}
        choice = ["dataset.task=multiple_choice", "dataset.text=[a]", "+dataset.choices=[a,b]", "dataset.label=z"]
        columns["z"] = [i % 2 for i in range(40)]
        inputs = "dataset.inputs=['{a}','{choice}']"
        record, _ = train(*files("jsonl", columns), *choice, inputs, "recipe.epochs=1")
        assert set(record.metrics["validation"]["values"]) == {"accuracy"}

    def test_names_tell_files_apart(self, made, files, tmp_path: Path) -> None:
        columns = {"review": self.TEXTS, "y": [i % 2 for i in range(40)]}
        what = ["dataset.text=[review]", "dataset.label=y"]
        one, other = files("csv", columns), files("csv", {**columns, "y": [1 - i % 2 for i in range(40)]}, "theirs")
        assert made(*one, *what).key != made(*other, *what).key
        assert made(*one, *what, "dataset.title='My reviews/2'").config.dataset.name == "My-reviews-2"
        (tmp_path / "mine" / "train.csv").write_text((tmp_path / "mine" / "reviews.csv").read_text())
        moved = [one[0], f"dataset.train_file={tmp_path}/mine/train.csv", one[2]]
        assert made(*moved, *what).config.dataset.name == "mine"

    def test_relative_paths_are_from_here(self, made, files, tmp_path: Path, monkeypatch) -> None:
        files("csv", {"review": self.TEXTS, "y": [i % 2 for i in range(40)]})
        monkeypatch.chdir(tmp_path)
        given = ["dataset=csv", "dataset.train_file=mine/reviews.csv", "dataset.validation_file=mine/dev.csv"]
        assert made(*given, "dataset.text=[review]", "dataset.label=y")

    WHAT = ["dataset.text=[review]", "dataset.label=y"]

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            (["dataset.train_file=null"], "dataset.train_file: is required"),
            (["dataset.validation_file=null"], "dataset.validation_file: is required"),
            (["dataset.train_file=nowhere.csv"], "dataset.train_file=nowhere.csv: there is no such file"),
            (["dataset.text=[]"], "dataset.text: name the column"),
            (["dataset.text=[title]"], "dataset.text=title: reviews.csv has no such column; it has review, y, long"),
            (["dataset.label=null"], "dataset.label: classification needs the column"),
            (["dataset.label=mark"], "dataset.label=mark: reviews.csv has no such column; it has review, y, long"),
            (["dataset.label=long"], "has 120 different values"),
            (["dataset.labels=[a,b,c]"], "row 0 has the label 0; allowed"),
            (["dataset.task=regression", "dataset.label=long"], "row 0 has 'n0'; allowed are numbers"),
            (["dataset.label=review"], "dataset.label=review: is dataset.text too"),
            (["dataset.metrics={accurracy: max}"], "accurracy is no metric"),
            (["dataset.format=xlsx"], "csv | jsonl | parquet"),
            (["dataset=jsonl"], "can't be read as jsonl"),
            (["dataset=parquet"], "can't be read as parquet"),
        ],
    )
    def test_each_mistake_is_one_line(self, made, files, more: list[str], message: str) -> None:
        columns = {"review": self.TEXTS * 3, "y": [i % 2 for i in range(120)], "long": [f"n{i}" for i in range(120)]}
        if more == ["dataset.labels=[a,b,c]"]:
            columns["y"] = [0, 5] * 60
            message = "row 1 has the label 5; allowed"
        given = [*files("csv", columns, rows=120), *self.WHAT, *more]
        with pytest.raises(ConfigError) as error:
            build_task(made(*given).config)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", ["tiny_t5", "tiny_bart"])
@pytest.mark.parametrize("name", [*dict.fromkeys([*ONE_EACH.values(), "multirc", "record", "copy"])])
def test_every_task_type_runs_as_text(train: Callable, name: str, model: str) -> None:
    """Rows, training steps, written answers, the data set's own metrics."""
    few = ["recipe.train_samples=12", "recipe.eval_samples=8", "recipe.max_steps=2", "recipe.max_length=200"]
    record, places = train(f"dataset={name}", f"model={model}", "method=full", "formulation=text", *few)
    data, split = record.config["dataset"], record.config["dataset"]["evaluation"][0]
    assert record.status == "completed"
    assert set(record.metrics[split]["values"]) == set(data["metrics"])
    assert all(-1 <= value <= 1 for value in record.metrics[split]["values"].values())
    kept = pq.read_table(places.predictions)
    assert kept.schema.field("answer").type == pa.string()
    assert {"label", "references"} & set(kept.column_names)


def test_every_task_type_can_be_written() -> None:
    types = {type_ for type_, _ in table.TASKS} - {"mixture"}
    assert {type_ for type_, way in table.TASKS if way == "text"} == types
    tested = {compose.one([f"dataset={name}"]).dataset.task for name in [*ONE_EACH.values(), "copy"]}
    assert tested == types


def test_numbers_are_written_in_steps_and_read_back(made: Callable) -> None:
    """T5's rounding; for what is no number the end of the right ones' range that is farther from its own."""
    case = Built(made("dataset=stsb", "model=tiny_t5", "formulation=text", "method=full"))
    written = [case.task.right(Example(0, {}, label)) for label in (0.0, 2.57, 3.3, 4.71, 5.0)]
    assert written == ["0.0", "2.6", "3.2", "4.8", "5.0"]

    class Split:
        labels = torch.tensor([0.0, 2.5, 5.0, 4.0])

    values = case.task.score(["0.0", " 2.4 ", "5", "four"], Split())
    assert values["pearson"] == pytest.approx(np.corrcoef([0.0, 2.4, 5.0, 0.0], Split.labels)[0, 1])


def test_a_gap_is_answered_by_its_name(made: Callable) -> None:
    case = Built(made("dataset=record", "model=tiny_t5", "formulation=text", "method=full"))
    assert len(case.data.train) == case.data.train.row_count
    line = case.data.train.collate([0])
    text = case.context.tokenizer.decode(line["input_ids"][0], skip_special_tokens=True)
    assert "@placeholder who won" in text
    answer = case.context.tokenizer.decode(line["targets"][0], skip_special_tokens=True)
    assert answer == case.data.train.references[0][0]
    right = [others[0] for others in case.data.train.references]
    assert case.task.score(right, case.data.train) == {"record_f1": 1.0, "record_em": 1.0}
