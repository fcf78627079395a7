"""Answers as text: prompts that don't know the right one, numbers and words that are read back, what is cut."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from built import Built
from composed import composed
from hypothesis import given
from hypothesis import strategies as st

from peftbench import tasks
from peftbench.data.encode import _labels
from peftbench.data.examples import Example
from peftbench.errors import ConfigError
from peftbench.tasks.written import in_digits, read

COPY = ["dataset=copy", "method=full", "recipe.train_samples=16", "recipe.eval_samples=8", "recipe.max_length=30"]
DECODERS, WRITERS = ["tiny_llama", "tiny_gpt2"], ["tiny_llama", "tiny_gpt2", "tiny_t5", "tiny_bart"]


@pytest.fixture
def built(cell):
    return lambda model, *more: Built(cell(f"model={model}", *COPY, *more))


def _example(answer: str) -> Example:
    return Example(0, {"source": "a long text " * 9}, references=[answer])


@pytest.mark.parametrize("model", WRITERS)
def test_a_prompt_in_evaluation_is_the_same_for_any_right_answer(built, model: str) -> None:
    case = built(model)
    texts = ["", "x", "seven", "many words that are longer than what may be written"]
    made = case.task.encode(case.context.tokenizer, [_example(text) for text in texts], 30)
    assert made.input_ids == [made.input_ids[0]] * len(texts)
    assert made.cut == len(texts)
    room = case.task.generation["max_new_tokens"] if model in DECODERS else 0
    assert len(made.input_ids[0]) == 30 - room


@pytest.mark.parametrize("model", WRITERS)
def test_in_training_a_decoder_keeps_room_for_its_answer(built, model: str) -> None:
    case = built(model)
    examples = [_example(text) for text in ("x", "seven")]
    made = case.task.encode(case.context.tokenizer, examples, 30, training=True)
    lengths = [len(ids) for ids in made.input_ids]
    answers = [len(ids) for ids in made.targets]
    assert lengths == ([30 - n for n in answers] if model in DECODERS else [30, 30])


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_only_what_is_trained_on_is_encoded_for_training(built, model: str) -> None:
    """The fixed slice of train is scored, as the others are."""
    case = built(model, "recipe.max_length=16")
    room = case.task.generation["max_new_tokens"] if model in DECODERS else 0
    for name, part in case.data.slices.items():
        assert int(part.offsets.diff().max()) <= 16 - room, name
        whole = part.lengths - part.target_offsets.diff()
        assert bool((whole == part.offsets.diff()).all())
    if model in DECODERS:
        assert int(case.data.train.lengths.max()) <= 16
        assert int(case.data.train.offsets.diff().max()) > 16 - room


@pytest.mark.parametrize("model", ["tiny_llama", "tiny_t5"])
def test_answers_that_are_cut_in_training_are_counted(built, model: str) -> None:
    case = built(model)
    examples = [_example("x"), _example("far too long for ten tokens"), replace(_example("y"), fields={"source": "b"})]
    task, tokenizer = case.task, case.context.tokenizer
    assert task.encode(tokenizer, examples, 400, training=True).cut == 1
    assert task.encode(tokenizer, examples, 30, training=True).cut == 2
    assert task.encode(tokenizer, examples, 400).cut == 0


def test_a_record_counts_them(train) -> None:
    record = train("model=tiny_t5", *COPY, "dataset.generation.max_new_tokens=3", "recipe.max_steps=1")
    assert record.samples["truncated"] == record.samples["examples"] == 16
    assert record.metrics["validation"]["truncated"] == 0


@pytest.mark.parametrize("step", ["null", "0.00001", "0.5", "1.0", "1000"])
@pytest.mark.parametrize(
    "values",
    [
        [1234567.0, 2234567.0, 3234567.0, 1250000.0],
        [1e-6, 2e-5, 3e-6, 7e-5],
        [0.25, 0.5, 0.75, 1.0],
        [-1.0, -2.0, -1.0, -3.0],
        [1234567890.0, 1234567891.0, 1234567892.0, 1234567893.0],
        [1e22, -3e19, 2e-13, 0.1],
    ],
)
def test_right_numbers_score_one(step: str, values: list[float]) -> None:
    more = [f"dataset.writing.step={step}"]
    task = tasks.build(composed(["model=tiny_t5", "dataset=stsb", "formulation=text", *more]))
    unit = None if step == "null" else float(step)
    rounded = [value if unit is None else round(value / unit) * unit for value in values]
    said = [task.right(Example(0, {}, value)) for value in values]
    assert all(set(text) <= set("-.0123456789") for text in said)
    assert [float(text) for text in said] == pytest.approx(rounded, rel=1e-12, abs=1e-15)
    if len(set(rounded)) == len(set(values)):

        class Split:
            labels = _labels(rounded)

        assert task.score(said, Split()) == {"pearson": pytest.approx(1), "spearman": pytest.approx(1)}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_read_back(value: float) -> None:
    assert read(in_digits(value, None)) == value


@given(st.floats(-1e9, 1e9), st.sampled_from([1e-5, 1e-3, 0.1, 0.2, 0.25, 1.0, 2.0, 5.0, 100.0]))
def test_a_step_is_kept(value: float, step: float) -> None:
    written, unit = Fraction(in_digits(value, step)), Fraction(repr(step))
    assert (written / unit).denominator == 1
    assert abs(written - Fraction(repr(value))) <= unit / 2


@pytest.mark.parametrize(
    ("text", "number"),
    [(" 2.6 ", 2.6), ("-3", -3), ("+4.", 4), (".5", 0.5), ("1.23e+06", 1230000), ("1E2", 100), ("five", None),
     ("", None), ("2.6 points", None), ("1,5", None), ("nan", None), ("inf", None), ("9" * 400, None), ("٣", None)],
)  # fmt: skip
def test_what_is_a_number(text: str, number: float | None) -> None:
    assert read(text) == number


@pytest.mark.parametrize("labels", [[-1.0, -1.0, 5.0, 4.0], [-1.0, 0.0, 1.0, 2.0], [3.0, 9.0, 4.0, 8.0]])
def test_what_is_no_number_is_wrong_whatever_is_right(labels: list[float]) -> None:
    """Also where -1 is right."""
    task = tasks.build(composed(["model=tiny_t5", "dataset=stsb", "formulation=text"]))

    class Split:
        pass

    Split.labels = torch.tensor(labels)
    right = [f"{label:g}" for label in labels]
    for i, label in enumerate(labels):
        said = [*right[:i], "nothing", *right[i + 1 :]]
        farther = min(labels) if label - min(labels) > max(labels) - label else max(labels)
        values = [*labels[:i], farther, *labels[i + 1 :]]
        found = task.score(said, Split())
        assert found["pearson"] == pytest.approx(np.corrcoef(values, labels)[0, 1])
        assert found["spearman"] < 0.99


def test_labels_that_32_bits_hold_stay_so() -> None:
    assert _labels([0.1, 2.6, 2.6]).dtype == torch.float32
    assert _labels([1234567890.0, 1234567891.0]).dtype == torch.float64
    assert _labels([1, 0]).dtype == torch.int64


def _words(*words: str):
    labels = ",".join(f"l{i}" for i in range(len(words)))
    more = [f"dataset.verbaliser=[{','.join(repr(word) for word in words)}]", f"dataset.labels=[{labels}]"]
    return tasks.build(composed(["model=tiny_t5", "dataset=demo", "formulation=text", *more]))


def _score(task, said: list[str], labels: list[int]) -> float:
    class Split:
        groups = None

    Split.labels = torch.tensor(labels)
    return task.score(said, Split())["accuracy"]


@pytest.mark.parametrize("words", [("Polish", "polish"), ("US", "us"), ("Straße", "STRASSE"), ("a  b", " c ")])
@pytest.mark.parametrize("prepared", [False, True])
def test_words_that_differ_in_case_alone_are_told_apart(built, words, prepared: bool) -> None:
    task = _words(*words)
    if prepared:
        task.prepare(built("tiny_t5").context.tokenizer)
    assert _score(task, list(words), [0, 1]) == 1
    assert _score(task, [words[1], words[0]], [0, 1]) == 0


def test_another_case_is_the_word_where_only_one_is_meant() -> None:
    assert _score(_words("Polish", "polish"), ["POLISH", "POLISH"], [0, 1]) == 0
    assert _score(_words("Yes", "No"), ["yes", " NO "], [0, 1]) == 1


def test_words_that_a_tokenizer_writes_alike_are_refused(built) -> None:
    from tokenizers import normalizers

    tokenizer = built("tiny_t5").context.tokenizer
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(ConfigError, match="dataset.verbaliser: this tokenizer writes 'Polish' as 'polish'"):
        _words("Polish", "polish").prepare(tokenizer)
    _words("Polish", "German").prepare(tokenizer)


@pytest.mark.parametrize("formulation", ["head", "verbaliser"])
@pytest.mark.parametrize("text", ["", "some"])
def test_an_empty_text_is_read_off_a_token(cell, formulation: str, text: str) -> None:
    """Of a tokenizer that puts nothing around a text."""
    from tokenizers import processors

    case = Built(cell("model=tiny_llama", "method=full", f"formulation={formulation}", "recipe.train_samples=8"))
    task, tokenizer = case.task, case.context.tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()
    if formulation == "verbaliser":
        task.config.template = "{sentence} {answer}"
    made = task.encode(tokenizer, [Example(0, {"sentence": text}, 0), Example(1, {"sentence": ""}, 1)], 40)
    assert all(made.input_ids)
    assert len(made.input_ids[1]) == 1
    longest = max(map(len, made.input_ids))
    batch = {
        "input_ids": torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in made.input_ids]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in made.input_ids]),
        "labels": torch.tensor([0, 1]),
    }
    logits = case.logits(batch=batch)
    assert logits.isfinite().all()
    alone = {name: values[1:, :1] if values.ndim == 2 else values[1:] for name, values in batch.items()}
    assert torch.allclose(case.logits(batch=alone)[0], logits[1], atol=1e-5)
    assert math.isfinite(case.task.losses(case.model(**case.task.inputs(batch)), batch).sum().item())
