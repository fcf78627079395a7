"""A metric of the user's own, from a folder beside the data to the record; what isn't one is refused in one line."""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from peftbench.config import targets
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.tasks.metrics import own, registry
from peftbench.tasks.metrics.scope import LABELS, NUMBERS, TEXTS, AnswerType
from peftbench.tasks.table import build as build_task

COST = """
def cost(predictions, references):
    return float(5 * ((references == 1) & (predictions == 0)).mean() + ((references == 0) & (predictions == 1)).mean())

cost.direction = "min"

def bad(predictions, references):
    return float("nan")

def words(predictions, references):
    return "good"

def fails(predictions, references):
    return predictions["label"]

def one(predictions):
    return 1.0

number = 3
"""
MODULE = """
import datasets
import evaluate

direction = "min"

class Miss(evaluate.Metric):
    def _info(self):
        one = datasets.Value("int64")
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="", features=datasets.Features(
                {"predictions": one, "references": one})
        )

    def _compute(self, predictions, references):
        return {"n": len(predictions), "miss": sum(p != r for p, r in zip(predictions, references)) / len(predictions)}
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package of metrics, which is the working directory."""
    folder = tmp_path / "study"
    (folder / "my_scores").mkdir(parents=True)
    (folder / "my_scores" / "__init__.py").write_text("")
    (folder / "my_scores" / "costs.py").write_text(COST)
    (folder / "miss.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_scores"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_function_is_scored_by_and_says_its_direction(mine: Path, cell: Callable) -> None:
    prepared = cell("dataset.metrics=my_scores.costs.cost", "dataset.also=[accuracy,f1_weighted]")
    assert prepared.config.dataset.metrics == {"my_scores.costs.cost": "min"}
    task = build_task(prepared.config)
    right, answers = np.array([1, 1, 0, 0]), np.array([0, 1, 1, 0])
    values = registry.compute(task.metrics, answers, right)
    assert values == {"my_scores.costs.cost": pytest.approx(5 / 4 + 1 / 4)}


def test_another_text_of_the_metric_is_another_run(mine: Path, cell: Callable) -> None:
    words = ["dataset.metrics=my_scores.costs.cost"]
    before = cell(*words).key
    assert cell(*words).key == before
    with (mine / "my_scores" / "costs.py").open("a") as file:
        file.write("\n# Six times as much.\n")
    assert cell(*words).key != before


def test_an_evaluate_module_is_scored_by(mine: Path, cell: Callable) -> None:
    prepared = cell("dataset.metrics=./miss.py")
    assert prepared.config.dataset.metrics == {"./miss.py": "min"}
    build_task(prepared.config)
    assert registry.compute(["./miss.py"], np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1])) == {"./miss.py": 0.25}


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("my_scores.costs.bad", "returned nan; allowed is a finite number"),
        ("my_scores.costs.words", "returned 'good'; allowed is a finite number"),
        ("my_scores.costs.fails", "fails on labels of 2 classes (IndexError"),
        ("my_scores.costs.one", "allowed is a function of predictions and references"),
        ("my_scores.costs.number", "allowed is a function of a module"),
        ("my_scores.costs.gone", "can't be imported (my_scores.costs has no gone)"),
        ("my_scores.nowhere.cost", "can't be imported (No module named 'my_scores.nowhere')"),
        ("./gone.py", "no such file"),
    ],
)
@pytest.mark.parametrize("key", ["metrics", "also"])
def test_what_is_no_metric_is_refused_in_one_line(mine: Path, cell: Callable, metric: str, says: str, key: str) -> None:
    with pytest.raises(ConfigError) as error:
        build_task(cell(f"dataset.{key}={metric}").config)
    assert says in str(error.value)
    assert str(error.value).startswith(f"dataset.{key}={metric}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [LABELS, NUMBERS, TEXTS])
def test_a_metric_is_tried_on_answers_of_its_kind(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def metric(predictions: object, references: object) -> float:
        calls.append((predictions, references))
        return 0.5

    monkeypatch.setattr(own, "load", lambda name, key: metric)
    own.check("a.b", "dataset.metrics", AnswerType(kind, 3 if kind == LABELS else None))
    assert all(len(predictions) == len(references) > 1 for predictions, references in calls)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, True, "1", np.array([1.0, 2.0])])
def test_only_a_finite_number_is_a_score(value: object) -> None:
    with pytest.raises(ConfigError, match="allowed is a finite number"):
        own.number("a.b", value)


@pytest.mark.parametrize("value", [0, 1.5, np.float32(0.25), np.int64(3), np.array(0.5)])
def test_numpys_numbers_are_numbers(value: object) -> None:
    assert own.number("a.b", value) == float(value)  # type: ignore[arg-type]


def test_what_lies_beside_a_config_dir_is_reached(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    before = list(sys.path)
    try:
        targets.make_importable([tmp_path / "conf"])
        assert sys.path[: len(before)] == before
        assert str(tmp_path) in sys.path[len(before) :]
    finally:
        sys.path[:] = before


def test_further_metrics_stand_beside_the_score(mine: Path, train: Callable[..., RunRecord]) -> None:
    plain = train("recipe.epochs=1")
    record = train("recipe.epochs=1", "dataset.also=[f1_macro,my_scores.costs.cost]")
    assert record.key != plain.key
    assert record.score == plain.score
    split = record.metrics["validation"]
    assert split is not None
    assert plain.metrics["validation"] is not None
    assert plain.metrics["validation"]["also"] is None
    assert set(split["values"]) == {"accuracy"}
    assert set(split["also"]) == {"f1_macro", "my_scores.costs.cost"}
    assert list(record.environment["inputs"]) == ["metric my_scores.costs.cost"]


def test_classes_of_a_record_are_those_of_its_answers(train: Callable[..., RunRecord]) -> None:
    split = train("recipe.epochs=1").metrics["validation"]
    assert split is not None
    classes = split["classes"]
    confusion = np.array(classes["confusion"])
    assert classes["labels"] == ["negative", "positive"]
    assert confusion.sum() == split["n"]
    assert confusion.trace() / confusion.sum() == pytest.approx(split["values"]["accuracy"])
    assert classes["n"] == confusion.sum(axis=1).tolist()
    assert classes["recall"] == pytest.approx((confusion.diagonal() / confusion.sum(axis=1)).tolist())


def test_one_metric_is_not_asked_for_twice(cell: Callable) -> None:
    with pytest.raises(ConfigError, match=r"dataset.also=accuracy: allowed are metrics that dataset.metrics doesn't"):
        cell("dataset.also=[accuracy]")
