"""The generated demo set: the same rows everywhere, and no shortcut to their labels."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from peftbench.data.demo import generate

Split = dict[str, list[Any]]
CONFIG = OmegaConf.load(Path(__file__).parents[2] / "conf" / "dataset" / "demo.yaml")


def rows() -> dict[str, Split]:
    return {split: table.to_pydict() for split, table in generate().items()}


@pytest.fixture(scope="module")
def splits() -> dict[str, Split]:
    return rows()


def test_same_rows_on_every_machine(splits: dict[str, Split]) -> None:
    """Records of different machines are compared: when a change of the rows is meant, change this hash."""
    found = hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()
    assert found == "fb53d546de315ee917bd99ab56cdd5a370b5d64f4ac72ea6d38732141f06013d"
    assert rows() == splits


def test_counts_and_columns_are_those_of_the_config(splits: dict[str, Split]) -> None:
    assert {split: len(columns["label"]) for split, columns in splits.items()} == dict(CONFIG.rows)
    assert set(splits) == {CONFIG.train, *CONFIG.evaluation}
    for columns in splits.values():
        assert set(columns) == {*CONFIG.text, CONFIG.label}


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_are_balanced(splits: dict[str, Split], split: str) -> None:
    labels = splits[split]["label"]
    assert labels.count(0) == labels.count(1) == len(labels) / len(CONFIG.labels)


def test_no_sentence_twice(splits: dict[str, Split]) -> None:
    """Within and across splits, whatever the case: the demo model's tokenizer ignores it."""
    sentences = [s.casefold() for columns in splits.values() for s in columns["sentence"]]
    assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("sentence", "label"),
    [
        ("The design of this sofa was truly superb.", 1),
        ("The design of this film was horrible.", 0),
        ("The service of this meal was not really poor.", 1),
        ("The sound of this film was far from superb.", 0),
        ("The colour was far from very pleasant, but the hotel was never clumsy.", 1),
        ("The garden was annoying, although the colour was clever.", 0),
        ("Although the colour was never truly good, the film was not awful.", 1),
        ("Our neighbour called the phone really brilliant, yet I found it truly bad.", 0),
        ("I found the book dull, yet my sister called it never really bad.", 0),
        ("I expected the sofa to be horrible and it was never really boring.", 1),
    ],
)
def test_labels_read_by_a_person(splits: dict[str, Split], sentence: str, label: int) -> None:
    train = splits["train"]
    assert train["label"][train["sentence"].index(sentence)] == label


def test_sentences_are_short(splits: dict[str, Split]) -> None:
    lengths = [len(s.split()) for columns in splits.values() for s in columns["sentence"]]
    assert 7 <= min(lengths)
    assert max(lengths) <= 17
    assert sum(lengths) / len(lengths) < 10


def test_a_bag_of_words_is_not_enough(splits: dict[str, Split]) -> None:
    """Else a linear probe would do as well as any method."""
    words = CountVectorizer()
    model = LogisticRegression(max_iter=1000)
    model.fit(words.fit_transform(splits["train"]["sentence"]), splits["train"]["label"])
    validation = splits["validation"]
    assert model.score(words.transform(validation["sentence"]), validation["label"]) <= 0.8
