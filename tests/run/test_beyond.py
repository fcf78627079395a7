"""What is evaluated beyond the score: as the record has it, the same for all methods, and no part of other keys."""

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import special

from peftbench.data import slicing
from peftbench.errors import ConfigError
from peftbench.results import shapes
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run import beyond
from tests.helpers.built import Built
from tests.helpers.composed import composed


def table(record: RunRecord, config: Any) -> dict[str, np.ndarray]:
    """A run's predictions on the split that is scored."""
    file = ResultStore(config.results_dir).places(config, record.key).predictions
    rows = [row for row in pq.read_table(file).to_pylist() if row["split"] == config.dataset.evaluation[0]]
    return {name: np.array([row[name] for row in rows]) for name in ("row", "label", "answer", "scores")}


def test_a_record_has_all_of_it(train, cell) -> None:
    asked = ["method=full", "evaluation=helm", "+dataset.slices=[label]", "method.lr=1e-3"]
    record, config = train(*asked), cell(*asked).config
    shapes.check(record.to_dict(), RunRecord)
    predicted, evaluated = table(record, config), record.evaluation
    assert evaluated is not None
    # Calibration, of the answers that the score is of.
    probabilities = special.softmax(predicted["scores"], axis=1)
    truth = np.eye(2)[predicted["label"]]
    assert evaluated["calibration"]["brier"] == pytest.approx(((probabilities - truth) ** 2).sum(1).mean(), abs=1e-5)
    assert evaluated["calibration"]["temperature"] > 0
    # Robustness.
    assert set(evaluated["robustness"]) == {"typos", "case", "contractions"}
    for figures in evaluated["robustness"].values():
        assert figures["drop"] == pytest.approx(record.score - figures["score"])
        assert figures["drop_low"] <= figures["drop"] <= figures["drop_high"]
        assert figures["n"] == len(predicted["row"])
    assert evaluated["robustness"]["typos"]["changed"] > 0
    # Slices.
    sliced = evaluated["slices"]["label"]
    for name, of_slice in sliced["groups"].items():
        chosen = predicted["label"] == int(name)
        assert of_slice["n"] == chosen.sum()
        assert of_slice["score"] == (predicted["answer"] == predicted["label"])[chosen].mean()
    assert sliced["worst"] == min(sliced["groups"], key=lambda name: sliced["groups"][name]["score"])


def test_the_score_is_as_without_it_and_its_key_is_another(train, cell) -> None:
    plain, asked = train("method=lora"), train("method=lora", "evaluation=helm")
    assert (plain.score, plain.evaluation) == (asked.score, None)
    assert plain.key != asked.key
    assert cell("method=lora", "evaluation=none").key == plain.key


def test_every_method_and_seed_meets_the_same_texts(cell) -> None:
    cases = [Built(cell(*words)) for words in (["method=lora"], ["method=bitfit", "seed=5"])]
    first, second = (case.data.perturbed("validation", "typos", 0)[0] for case in cases)
    assert first.tokens.equal(second.tokens)
    assert first.labels.equal(second.labels)
    assert not first.tokens.equal(cases[0].data.perturbed("validation", "typos", 1)[0].tokens)
    plain = cases[0].data.slices["validation"]
    assert plain is not None
    assert first.labels.equal(plain.labels)
    assert first.rows.equal(plain.rows)


def test_the_interval_is_of_the_paired_difference(cell) -> None:
    case = Built(cell("method=lora"))
    examples = case.data.slices["validation"]
    assert examples is not None
    labels = examples.labels.numpy()
    right, draw = np.eye(2)[labels], np.random.default_rng(0)
    wrong = draw.random(len(labels)) < 0.3
    both = (right, np.where(wrong[:, None], 1 - right, right))
    values = [beyond.by_example(case.tuner, answers, examples) for answers in both]
    assert values[0] is not None
    assert values[1] is not None
    assert np.array_equal(values[0] - values[1], wrong.astype(float))


def test_groups_are_sliced_by_what_they_have_in_common(cell) -> None:
    case = Built(cell("method=lora"))
    examples = case.data.slices["validation"]
    assert examples is not None
    scores = np.eye(2)[examples.labels.numpy()]
    scores[0] = 1 - scores[0]
    half = [None if i < 4 else "b" for i in range(len(examples))]
    made = beyond.by_value(case.tuner, scores, examples, half, down=False)
    assert made == {"groups": {"": {"n": 4, "score": 0.75}, "b": {"n": len(examples) - 4, "score": 1.0}}, "worst": ""}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["evaluation.perturbations=[typo]", "evaluation=helm"],
            "a list of different ones of typos, case, contractions",
        ),
        (["+dataset.slices=[]"], "dataset.slices="),
    ],
)
def test_what_is_not_allowed_is_said(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        composed(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["+dataset.slices=[sentence]"], "dataset.slices=sentence: it has .* values; allowed are 5 at most"),
     (["+dataset.slices=[topic]"], "topic")],
)  # fmt: skip
def test_columns_are_looked_at_before_anything_is_trained(
    cell, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setattr(slicing, "MOST", 5)
    with pytest.raises(ConfigError, match=said):
        cell(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=mixture", "dataset.parts=[sst2,mrpc]", "evaluation=helm"], "evaluation: not for a mixture"),
        (["dataset=record", "evaluation=helm"], "has a placeholder in its texts; allowed is"),
    ],
)
def test_data_that_cannot_be_asked_are_refused(words: list[str], said: str) -> None:
    nowhere: Any = None
    with pytest.raises(ConfigError, match=said):
        slicing.check(composed(words), nowhere)
