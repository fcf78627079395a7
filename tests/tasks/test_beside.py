"""What a record has beside the score: each class's share, against scikit-learn."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from peftbench.tasks.base import Answered
from peftbench.tasks.beside import MOST_CLASSES, beside, by_class
from tests.helpers.composed import composed


@pytest.mark.parametrize("seed", range(5))
def test_by_class_is_scikit_learns(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    right, answers = drawn.integers(0, 4, 60), drawn.integers(0, 3, 60)  # The last class is never answered.
    names = ["a", "b", "c", "d"]
    table = by_class(names, Answered(answers, right))
    precision, recall, f1, n = precision_recall_fscore_support(right, answers, labels=range(4), zero_division=0.0)
    assert table["confusion"] == confusion_matrix(right, answers, labels=range(4)).tolist()
    for name, wanted in {"precision": precision, "recall": recall, "f1": f1, "n": n}.items():
        assert table[name] == pytest.approx(list(wanted))
    assert table["precision"][3] == 0


def test_what_is_not_by_class_is_null() -> None:
    config = composed(["dataset=sst2", "model=tiny_bert"]).dataset
    labels = np.array([0, 1, 1])
    assert beside(config, Answered(labels, labels), judged=True)["classes"] is not None
    assert beside(config, Answered(labels, labels), judged=False)["classes"] is None
    assert beside(config, Answered(labels, labels, groups=labels), judged=True)["classes"] is None
    assert beside(config, Answered(labels / 2, labels), judged=True)["classes"] is None
    many = dataclasses.replace(config, labels=[str(i) for i in range(MOST_CLASSES + 1)])
    assert beside(many, Answered(labels, labels), judged=True)["classes"] is None
