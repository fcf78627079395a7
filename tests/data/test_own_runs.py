"""The user's own files from the command line to a score, and each mistake in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv  # noqa: F401
import pyarrow.parquet as pq
import pytest

from peftbench.errors import ConfigError
from peftbench.tasks.table import build as build_task
from tests.helpers.built import Built


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
    def test_labels_are_found_in_the_file(self, recorded, files, kind: str) -> None:
        columns = {"review": self.TEXTS, "mark": ["bad" if i % 2 else "good" for i in range(40)]}
        record, _ = recorded(*files(kind, columns), "dataset.text=[review]", "dataset.label=mark", "recipe.epochs=1")
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

    def test_regression_pairs_and_choices(self, recorded, files) -> None:
        columns = {"a": self.TEXTS, "b": self.TEXTS[::-1], "y": [i / 7 for i in range(40)]}
        line = [*files("jsonl", columns), "dataset.text=[a,b]", "dataset.label=y", "recipe.epochs=1"]
        record, _ = recorded(*line, "dataset.task=regression")
        assert set(record.metrics["validation"]["values"]) == {"pearson", "spearman"}
        choice = ["dataset.task=multiple_choice", "dataset.text=[a]", "+dataset.choices=[a,b]", "dataset.label=z"]
        columns["z"] = [i % 2 for i in range(40)]
        inputs = "dataset.inputs=['{a}','{choice}']"
        record, _ = recorded(*files("jsonl", columns), *choice, inputs, "recipe.epochs=1")
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
