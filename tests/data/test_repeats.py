"""Scored rows that were trained on are counted, in the record and in a footnote."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.config import identity
from peftbench.data import repeats
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.mixture import MixtureDataModule
from peftbench.data.repeats import Repeats
from peftbench.models import backbones
from peftbench.results import warnings
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.evaluation import rows_in_train
from peftbench.run.prepared import prepare
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed
from tests.helpers.runs import write_split


def counted(*arguments: str) -> tuple[dict[str, Repeats], list[str]]:
    """By split, and what the record says of it."""
    found = prepare(composed(list(arguments)))
    kind = MixtureDataModule if found.config.dataset.parts else TaskDataModule
    data = kind(
        found.config,
        build_task(found.config),
        backbones.load_tokenizer(found.config.model, found.checkpoint),
        source=found.source,
        tokenizer_fingerprint=found.checkpoint.fingerprint,
        cache=ResultStore(found.config.results_dir).cache,
    )
    data.setup()
    data.count_repeats()
    metrics = {name: rows_in_train(repeated) for name, repeated in data.repeats.items()}
    record = RunRecord(key="k", status="completed", config=identity.description(found.config), metrics=metrics)
    return data.repeats, [warned["text"] for warned in warnings.of(record)]


@pytest.fixture
def count(results: Path, tmp_path: Path) -> Callable[..., tuple[dict[str, Repeats], list[str]]]:
    return lambda *more: counted(
        "model=tiny_bert", f"results_dir={results}", f"data_root={tmp_path}", "recipe.selection=last", *more
    )


def _sst2(root: Path, train: list[str], validation: list[str]) -> None:
    for split, texts in (("train", train), ("validation", validation)):
        labels = [i % 2 for i in range(len(texts))]
        write_split(root / "glue" / "sst2", split, {"sentence": texts, "label": labels})


def test_rows_are_told_apart_word_for_word_and_without_case_and_space(count, tmp_path: Path) -> None:
    train = ["A good film", "a bad film", "Straße  und Weg", "nothing"]
    _sst2(
        tmp_path, train, ["A good film", "a  BAD film ", "STRASSE und weg", "none of it", "A good film", "nothing at"]
    )
    found, said = count("dataset=sst2")
    assert found == {"validation": Repeats(scored=6, exact=2, folded=4)}
    assert said == [
        "sst2: 4 of 6 scored rows of validation are among the rows trained on, up to case and white space "
        "(2 of them word for word)"
    ]


def test_only_rows_trained_on_and_scored_count(count, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    _sst2(tmp_path, texts, texts[:20])
    found, _ = count("dataset=sst2")
    assert found["validation"] == Repeats(20, 20, 20)
    found, _ = count("dataset=sst2", "recipe.train_samples=10", "recipe.eval_samples=8")
    assert found["validation"].scored == 8
    assert found["validation"].exact < 8
    # Carved rows are selected on and not trained on.
    found, _ = count("dataset=sst2", "recipe.selection=best_on_selection", "dataset.carve.fraction=0.5")
    assert 0 < found["validation"].exact < 20


def test_without_a_repeat_nothing_is_said(count, tmp_path: Path) -> None:
    _sst2(tmp_path, ["a", "b"], ["c", "d"])
    assert count("dataset=sst2") == ({"validation": Repeats(2, 0, 0)}, [])


@pytest.mark.parametrize(
    "more", [["dataset.train=validation"], ["dataset.evaluation=[train]"]], ids=["train", "evaluation"]
)
def test_training_on_the_split_that_is_scored_is_said(count, tmp_path: Path, more: list[str]) -> None:
    _sst2(tmp_path, ["a", "b", "c"], ["d", "e", "f"])
    (found, said), split = count("dataset=sst2", *more), more[0].partition("=")[2].strip("[]")
    assert found == {split: Repeats(3, 3, 3)}
    assert said == [
        f"sst2: 3 of 3 scored rows of {split} (the split that was trained on) are among the rows trained on, "
        "up to case and white space (word for word)"
    ]


def test_one_file_given_twice(count, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("review,stars\nfine,good\nugly,bad\n")
    files = [f"dataset.{key}_file={tmp_path}/own.csv" for key in ("train", "validation")]
    found, said = count("dataset=csv", *files, "dataset.text=[review]", "dataset.label=stars")
    assert found == {"validation": Repeats(2, 2, 2)}
    assert len(said) == 1


def test_both_texts_of_a_pair_must_be_the_same(count, tmp_path: Path) -> None:
    for split, second in (("train", ["x", "y z"]), ("validation", ["x", "other"])):
        columns = {"sentence1": ["a", "b"], "sentence2": second, "label": [0, 1]}
        write_split(tmp_path / "glue" / "mrpc", split, columns)
    assert count("dataset=mrpc")[0] == {"validation": Repeats(2, 1, 1)}


def test_another_choice_makes_another_question(count, tmp_path: Path) -> None:
    for split, choice in (("train", "wet"), ("validation", "dry")):
        columns = {"premise": ["it rains"] * 2, "question": ["effect"] * 2, "choice1": ["wet", "cold"]}
        columns |= {"choice2": ["warm", choice], "label": [0, 1]}
        write_split(tmp_path / "super_glue" / "copa", split, columns)
    assert count("dataset=copa")[0]["validation"] == Repeats(2, 1, 1)


def test_rows_that_are_scored_together_and_texts_that_are_written(count, tmp_path: Path) -> None:
    ids = [{"paragraph": 0, "question": 0, "answer": i} for i in range(2)]
    for split, answers in (("train", ["yes", "no"]), ("validation", ["Yes", "maybe"])):
        columns = {"paragraph": ["p"] * 2, "question": ["q"] * 2, "answer": answers, "idx": ids, "label": [0, 1]}
        write_split(tmp_path / "super_glue" / "multirc", split, columns)
    assert count("dataset=multirc")[0] == {"validation": Repeats(2, 0, 1)}
    found, _ = count("dataset=copy", "model=tiny_t5")
    assert found == {"validation": Repeats(200, 0, 0)}


def test_of_a_mixture_the_rows_of_all_parts_were_trained_on(count, tmp_path: Path) -> None:
    _sst2(tmp_path, ["a", "b"], ["c", "d"])
    for split, texts in (("train", ["c", "e"]), ("validation", ["a", "e"])):
        write_split(tmp_path / "glue" / "cola", split, {"sentence": texts, "label": [0, 1]})
    found, said = count("dataset=mixture", "dataset.parts=[sst2,cola]")
    assert found == {"sst2/validation": Repeats(2, 1, 1), "cola/validation": Repeats(2, 2, 2)}
    assert [note.partition(":")[0] for note in said] == ["sst2", "cola"]


def test_texts_are_read_once(count, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sst2(tmp_path, ["a", "b"], ["a", "c"])
    first = count("dataset=sst2")
    monkeypatch.setattr(repeats, "_count", lambda *_: pytest.fail("counted again"))
    assert count("dataset=sst2", "seed=1") == first


@pytest.mark.parametrize(("method", "expected"), [("lora", (40, 40)), ("zero_shot", (None, None))])
def test_the_record_has_the_counts(
    train: Callable[..., RunRecord], data_root: Path, tmp_path: Path, method: str, expected: tuple[Any, Any]
) -> None:
    """Nothing is trained on by a method that doesn't train."""
    source = data_root / "glue" / "sst2"
    for split in ("train", "validation"):
        table = pq.read_table(next(source.glob("validation-*")))
        write_split(tmp_path / "glue" / "sst2", split, table.to_pydict())
    record = train(f"method={method}", f"data_root={tmp_path}", "recipe.selection=last", "recipe.max_steps=1")
    found = record.metrics["validation"]
    assert (found["rows_in_train"], found["rows_in_train_folded"]) == expected
    assert record.metrics["train"]["rows_in_train"] is None
    kinds = [warned["kind"] for warned in record.warnings]
    assert (warnings.WarningKind.ROWS_IN_TRAIN in kinds) == (method == "lora")
    assert found["rows"] == (40 if method == "lora" else None)


def test_many_rows_take_seconds(count, tmp_path: Path) -> None:
    """A quarter of MNLI: 100,000 pairs of 20 words each."""
    draw = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(5000)])
    texts = [" ".join(row) for row in words[draw.integers(0, 5000, (100_000, 20))]]
    folder = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"sentence1": texts, "sentence2": texts[::-1]}), folder)
    part: Any = type("Part", (), {})()
    part.reader = type("Reader", (), {"shown": ["sentence1", "sentence2"]})
    part.source = repeats.sources.DataSource({"train": [str(folder)]}, "f")
    began = time.process_time()
    found = repeats._count([(part, "train", np.arange(100_000))], {"v": (part, "train", np.arange(9_000))})
    assert found == {"v": Repeats(9_000, 9_000, 9_000)}
    assert time.process_time() - began < 10
