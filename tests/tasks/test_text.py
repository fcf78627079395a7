"""formulation=text: what is asked and answered, what is learnt from, and how written texts are scored."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.data.copy import generate
from peftbench.data.examples import Example
from peftbench.data.readers import reader
from peftbench.errors import ConfigError, NotApplicable
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built
from tests.helpers.composed import composed
from tests.helpers.runs import write_split

MODELS = ["tiny_llama", "tiny_gpt2", "tiny_t5", "tiny_bart"]
COPY = ["dataset=copy", "method=full", "recipe.train_samples=16", "recipe.eval_samples=8"]


@pytest.fixture
def built(cell):
    return lambda model, *more: Built(cell(f"model={model}", *COPY, *more))


def test_copied_strings_are_all_different() -> None:
    splits = {name: table.to_pydict() for name, table in generate().items()}
    texts = [text for split in splits.values() for text in split["source"]]
    assert len(set(texts)) == len(texts) == 4200
    assert all(split["source"] == split["target"] for split in splits.values())
    assert generate()["train"].equals(generate()["train"])


@pytest.mark.parametrize("model", MODELS)
def test_loss_is_that_of_the_answers_tokens_alone(built, model: str) -> None:
    """Against the model's own loss, one example at a time, unpadded, with the prompt masked by hand."""
    case = built(model)
    tokenizer, encoded = case.context.tokenizer, case.data.train
    batch = encoded.collate(range(8))
    with torch.no_grad():
        losses = case.task.losses(case.model.eval()(**case.task.inputs(batch)), batch)
    assert len(losses) == case.task.terms(batch)
    expected, count = 0.0, 0
    for i in range(8):
        line = encoded.collate([i])
        ids, target = line["input_ids"][0], line["targets"][0]
        source = encoded.references[i][0]
        end = tokenizer.sep_token_id
        if case.config.model.family == "decoder":
            assert tokenizer.decode(ids, skip_special_tokens=True) == f"{source} ="
            assert target.tolist() == [*tokenizer(f" {source}", add_special_tokens=False)["input_ids"], end]
            whole = torch.cat([ids, target])[None]
            labels = torch.cat([torch.full_like(ids, -100), target])[None]
        else:
            assert target.tolist() == tokenizer(source)["input_ids"]
            whole, labels = ids[None], target[None]
        with torch.no_grad():
            loss = case.model(input_ids=whole, labels=labels).loss
        expected, count = expected + loss.item() * len(target), count + len(target)
    assert losses.sum().item() == pytest.approx(expected, rel=1e-4)
    assert count == len(losses)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_a_batch_is_answered_as_its_examples_alone(built, model: str, beams: int) -> None:
    case = built(model, f"dataset.generation.num_beams={beams}", "dataset.generation.max_new_tokens=6")
    case.model.eval()
    with torch.no_grad():
        together = case.tuner.write(case.data.train.collate(range(6)))
        alone = [case.tuner.write(case.data.train.collate([i]))[0] for i in range(6)]
    assert together == alone
    assert len(case.data.train.lengths[:6].unique()) > 1


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
def test_methods_write_and_answers_leave_the_prompt_out(cell, model: str, method: str) -> None:
    case = Built(cell(f"model={model}", *COPY, f"method={method}", "dataset.generation.max_new_tokens=5"))
    case.model.eval()
    batch = case.data.train.collate(range(4))
    with torch.no_grad():
        texts = case.tuner.write(batch)
    assert len(texts) == 4
    assert all(len(text.encode()) <= 5 * 4 and "=" not in text[:1] for text in texts)


def test_a_decoder_is_asked_with_its_padding_in_front(built) -> None:
    case = built("tiny_llama")
    batch = {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    asked = case.task.prompt(batch)
    assert asked["input_ids"].tolist() == [[5, 6, 7, 8], [0, 0, 9, 10]]
    assert asked["attention_mask"].tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


def test_long_answers_are_cut_and_end(built) -> None:
    case = built("tiny_t5", "dataset.generation.max_new_tokens=4")
    targets = case.data.train.collate(range(8))["targets"]
    assert targets.shape[1] == 4
    assert set(targets[:, 3].tolist()) <= {case.task.end, -100}


@pytest.mark.parametrize(("model", "given"), [("tiny_llama", [[9, 9, 9]]), ("tiny_t5", [[0]])])
def test_written_tokens_are_those_of_the_answer(built, model: str, given: list[list[int]]) -> None:
    task = built(model).task
    ids = torch.tensor([[*given[0], 70, 71, 2, 0], [*given[0], 70, 71, 72, 73]])
    assert task.written(ids, {"input_ids": torch.zeros(2, len(given[0]))}) == 6


def _scored(task, predictions: list[str], **given):
    class Split:
        labels = torch.tensor(given.get("labels", [-1] * len(predictions)))
        groups = None if "groups" not in given else torch.tensor(given["groups"])
        references = given.get("references")

    return task.score(predictions, Split())


def test_a_text_that_is_no_label_is_wrong() -> None:
    task = build_task(composed(["model=tiny_t5", "dataset=demo", "formulation=text"]))
    assert task.words == ["bad", "good"]
    found = _scored(task, ["bad", "Good ", "nonsense", ""], labels=[0, 1, 0, 1])
    assert found == {"accuracy": 0.5}


def test_rows_of_one_question_share_their_references() -> None:
    task = build_task(composed(["model=tiny_t5", "dataset=copy"]))
    references = [["x"], ["y"], ["z"], ["z"]]
    assert _scored(task, ["y", "x", "no", "z"], references=references) == {"exact_match": 0.25}
    assert _scored(task, ["y", "x", "no", "z"], references=references, groups=[0, 0, 1, 2]) == {
        "exact_match": pytest.approx(2 / 3)
    }


def test_lists_and_fields_of_structs_are_read(tmp_path, results) -> None:
    """As WebNLG has them."""
    columns = {
        "modified_triple_sets": [{"mtriple_set": [["a | b | c", "d | e | f"]]}, {"mtriple_set": [["g | h | i"]]}] * 20,
        "lex": [{"text": ["one", "two"]}, {"text": ["three"]}] * 20,
    }
    for split in ("train", "test"):
        write_split(tmp_path / "web_nlg", split, columns)
    from peftbench.data import sources

    data = composed(["model=tiny_t5", "dataset=web_nlg"]).dataset
    source = sources.locate(data, data_root=str(tmp_path), cache=tmp_path / "cache")
    read = reader(data)
    first, second = read.examples(sources.read(source, "test", read.columns).slice(0, 2), np.arange(2))
    assert first.fields == {"triples": "a | b | c && d | e | f"}
    assert (first.references, second.references) == (["one", "two"], ["three"])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["model=tiny_bert"], NotApplicable, "an encoder writes no text"),
        (["model=tiny_t5", "~dataset.answers"], ConfigError, "dataset.answers: generation needs"),
        (["model=tiny_t5", "dataset.template=null"], ConfigError, "formulation=text needs dataset.template"),
        (
            ["model=tiny_t5", "~dataset.metrics.exact_match", "+dataset.metrics.accuracy=max"],
            ConfigError,
            "accuracy scores labels; dataset=copy has texts; allowed are bleu",
        ),
        (["model=tiny_t5", "formulation=head"], ConfigError, "generation is solved as auto, text"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        build_task(composed(["dataset=copy", *[a for a in arguments if not a.startswith("model=")], arguments[0]]))


def test_choices_are_letters(cell) -> None:
    config = composed(["model=tiny_t5", "dataset=copa", "formulation=text"])
    task = build_task(config)
    found = Built(cell("model=tiny_t5", *COPY))
    task.prepare(found.context.tokenizer)
    example = Example(0, {"premise": "It rained.", "question": "So?"}, 1, choices=["Dry.", "Wet."])
    made = task.encode(found.context.tokenizer, [example], 100)
    assert found.context.tokenizer.decode(made.input_ids[0], skip_special_tokens=True).endswith("(A) Dry. (B) Wet.")
    assert found.context.tokenizer.decode(made.targets[0], skip_special_tokens=True) == "B"
    assert _scored(task, ["b", "A", "C"], labels=[1, 1, 0]) == {"accuracy": pytest.approx(1 / 3)}
    # Choices without a letter would be missing in the prompt.
    many = replace(example, choices=[f"{i}." for i in range(27)])
    with pytest.raises(ConfigError, match=r"dataset\.choices: row 0 has 27; formulation=text has letters for 26"):
        task.encode(found.context.tokenizer, [many], 400)


def test_a_run_keeps_its_texts(train, results) -> None:
    record = train("model=tiny_gpt2", *COPY, "dataset.generation.max_new_tokens=5")
    assert record.status == "completed"
    assert 0 <= record.metrics["validation"]["values"]["exact_match"] <= 1
    assert record.efficiency["inference_generated_tokens_per_s"] > 0
    (file,) = (results / "predictions").rglob("*.parquet")
    table = pq.read_table(file)
    assert table.schema.field("answer").type == pa.string()
    assert {"split", "row", "answer", "references", "example_exact_match"} <= set(table.column_names)


def test_labels_are_written(train, results) -> None:
    record = train("model=tiny_t5", "dataset=demo", "formulation=text", "method=full", *COPY[2:])
    assert record.status == "completed"
    assert set(record.metrics["validation"]["values"]) == {"accuracy"}
    (file,) = (results / "predictions").rglob("*.parquet")
    table = pq.read_table(file).to_pandas()
    right = (table["counts_as"] == table["label"])[table["split"] == "validation"]
    assert right.mean() == pytest.approx(record.score)


def test_a_prompt_is_answered_once_a_pass(built, monkeypatch) -> None:
    """Rows with one text and several right answers, as DialogSum's test split has them."""
    case = built("tiny_t5", "dataset.generation.max_new_tokens=4")
    case.model.eval()
    batch = case.data.train.collate([0, 1, 0, 2, 1])
    batch["targets"][2, 1:] = -100  # Another right answer.
    with torch.no_grad():
        expected = [case.tuner.write(case.data.train.collate([i]))[0] for i in (0, 1, 0, 2, 1)]
    rows = []
    write = case.tuner.write
    monkeypatch.setattr(case.tuner, "write", lambda part: rows.append(len(part["input_ids"])) or write(part))
    with torch.no_grad():
        assert case.tuner.predict(batch)["predictions"] == expected
        assert case.tuner.predict(case.data.train.collate([1]))["predictions"] == [expected[1]]
        assert rows == [3]
        case.tuner.clear_generations()  # The next pass, by other weights.
        case.tuner.predict(case.data.train.collate([1]))
    assert rows == [3, 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rate", "steps", "batch"), [("tiny_t5", 5e-3, 800, 64), ("tiny_bart", 2e-3, 1000, 32)]
)
def test_copying_is_learnt_from_nothing(train, model: str, rate: float, steps: int, batch: int) -> None:
    """From random weights to strings that were never seen, written letter by letter: 20 s on a core."""
    recipe = {"max_steps": steps, "batch_size": batch, "weight_decay": 0, "schedule": "constant", "selection": "last"}
    words = [f"recipe.{key}={value}" for key, value in recipe.items()]
    record = train(f"model={model}", "dataset=copy", "method=full", f"method.lr={rate}", *words)
    assert record.samples["train"] > 3000
    assert record.metrics["validation"]["n"] == 200
    assert record.score >= 0.9


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("tiny_gpt2", ["recipe.max_length=515"], "tiny_gpt2 has 514 positions"),
        ("tiny_gpt2", ["recipe.max_length=514"], None),  # The answer is part of it.
        ("tiny_gpt2", ["recipe.max_length=10"], "the written answer alone takes 10"),
        ("tiny_gpt2", ["recipe.max_length=11"], None),
        ("tiny_llama", ["recipe.max_length=500", "method=prompt"], "of which the method's virtual tokens take 20"),
        ("tiny_bart", ["dataset.generation.max_new_tokens=515"], "max_new_tokens=515: tiny_bart has 514 positions"),
        ("tiny_bart", ["recipe.max_length=515"], "tiny_bart has 514 positions"),
        ("tiny_t5", ["recipe.max_length=5000"], None),
    ],
)
def test_no_more_tokens_than_positions(cell, model: str, more: list[str], message: str | None) -> None:
    from peftbench.models import backbones

    found = cell(f"model={model}", *COPY, *more)
    task = build_task(found.config)
    task.prepare(backbones.load_tokenizer(found.config.model, found.checkpoint))
    model_ = backbones.build_empty(found.config.model, found.checkpoint, task)
    if message is None:
        backbones.check_length(model_, found.config, task)
        return
    with pytest.raises(ConfigError, match=message):
        backbones.check_length(model_, found.config, task)
