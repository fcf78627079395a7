"""A metric that can't score the task is refused before anything is trained, by what is declared."""

import json
from pathlib import Path

import pytest

from peftbench import cli
from peftbench.errors import ConfigError, NotApplicable
from peftbench.run.prepared import prepare
from peftbench.tasks import table
from peftbench.tasks.metrics import registry
from peftbench.tasks.metrics.scope import LABELS, NUMBERS, TEXTS, scope
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed, written


@pytest.mark.parametrize(
    ("dataset", "metric", "has"),
    [
        ("cb", "f1", "labels of 3 classes"),
        ("mnli", "f1", "labels of 3 classes"),
        ("sst2", "em", "labels of 2 classes"),
        ("sst2", "f1a", "labels of 2 classes"),
        ("sst2", "gender_parity", "labels of 2 classes"),
        ("sst2", "pearson", "labels of 2 classes"),
        ("wic", "spearman", "labels of 2 classes"),
        ("wic", "exact_match", "labels of 2 classes"),
        ("multirc", "rouge1", "labels of 2 classes in groups"),
        ("copa", "f1", "choices"),
        ("copa", "em", "choices"),
        ("stsb", "accuracy", "numbers"),
        ("stsb", "bleu", "numbers"),
        ("stsb", "f1_macro", "numbers"),
        ("record", "accuracy", "texts"),
        ("record", "em", "texts"),
        ("copy", "accuracy", "texts"),
        ("copy", "pearson", "texts"),
    ],
)
@pytest.mark.parametrize("formulation", ["head", "verbaliser", "text"])
def test_what_cannot_score_is_refused(dataset: str, metric: str, has: str, formulation: str) -> None:
    config = composed([f"dataset={dataset}", "model=tiny_t5", f"formulation={formulation}"])
    config.dataset.metrics = {metric: "max"}
    if (config.dataset.task, formulation) not in table.TASKS:
        pytest.skip("isn't solved that way")
    with pytest.raises(ConfigError) as error:
        build_task(config)
    assert not isinstance(error.value, NotApplicable)
    assert f"dataset.metrics: {metric} scores " in str(error.value)
    assert f"dataset={dataset} has {has}; allowed are " in str(error.value)
    assert metric not in str(error.value).partition("allowed are ")[2].split(", ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", [name for name, file in written("dataset").items() if not file.get("format")])
def test_every_data_sets_own_metrics_fit(dataset: str) -> None:
    for model in ("tiny_bert", "tiny_t5"):
        try:
            build_task(composed([f"dataset={dataset}", f"model={model}"]))
        except NotApplicable:
            continue


@pytest.mark.parametrize(
    ("dataset", "metric"),
    [("wic", "matthews"), ("cb", "matthews"), ("multirc", "accuracy"), ("copa", "accuracy"), ("copy", "record_f1")],
)
def test_what_can_score_is_let_through(dataset: str, metric: str) -> None:
    config = composed([f"dataset={dataset}", "model=tiny_t5"])
    config.dataset.metrics = {metric: "max"}
    assert build_task(config).metrics == [metric]


def test_a_mixtures_parts_are_checked() -> None:
    config = composed(["dataset=mixture", "dataset.parts=[sst2,cb]", "model=tiny_bert"])
    config.dataset.parts[1].metrics = {"f1": "max"}
    with pytest.raises(ConfigError, match="f1 scores labels of 2 classes; dataset=cb has labels of 3 classes"):
        build_task(config)


@pytest.mark.parametrize("name", registry.names())
def test_a_metric_says_what_it_scores_and_has_its_module(name: str) -> None:
    assert scope(name).kind in (LABELS, NUMBERS, TEXTS)
    assert registry.get(name).__name__ == name
    assert Path(registry.path(name)).is_file()


def test_every_module_is_of_a_metric() -> None:
    folder = Path(registry.__file__).parent
    wrapped = {file.stem for file in folder.glob("*.py") if "module.metric(__name__)" in file.read_text()}
    assert wrapped == set(registry.names())


def _files(folder: Path, moods: list[str]) -> list[str]:
    for name in ("train", "validation"):
        lines = [json.dumps({"note": f"day {i}", "mood": moods[i % len(moods)], "x": i / 3}) for i in range(40)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return [
        "model=tiny_bert", "dataset=jsonl", f"dataset.train_file={folder}/train.jsonl",
        f"dataset.validation_file={folder}/validation.jsonl", "dataset.text=[note]", "dataset.label=mood",
    ]  # fmt: skip


def test_declared_classes_decide_where_fewer_occur(tmp_path: Path, results: Path) -> None:
    """F1 of two classes would be binary without a word where the third isn't in the data."""
    given = [*_files(tmp_path, ["bad", "good"]), "dataset.metrics={f1: max}", f"results_dir={results}"]
    build_task(prepare(composed(given)).config)
    with pytest.raises(ConfigError, match="labels of 3 classes"):
        build_task(prepare(composed([*given, "dataset.labels=[bad,good,mixed]"])).config)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["dataset.metrics={f1: max}"], "f1 scores labels of 2 classes"),
        (["dataset.label=x", "dataset.task=regression", "dataset.metrics={accuracy: max}"], "accuracy scores labels"),
        (["dataset.metrics={rouge1: max, accuracy: max}"], "rouge1 scores texts"),
    ],
)
def test_the_command_line_refuses_before_training(tmp_path: Path, results: Path, capsys, more, message: str) -> None:
    given = _files(tmp_path, ["bad", "good", "mixed"])
    assert cli.main([*given, *more, f"results_dir={results}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not list(results.glob("records/**/*.json"))
