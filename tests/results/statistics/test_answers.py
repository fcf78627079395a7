"""Pseudo-values from a record's predictions."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.results.records import RunRecord
from peftbench.results.statistics import answers
from peftbench.tasks.metrics import registry
from tests.helpers.boards import made

ROWS = np.array([5, 3, 9, 1, 7, 0])
LABELS, ANSWERS = np.array([0, 1, 1, 0, 1, 1]), np.array([0, 1, 0, 0, 1, 0])


def _record(dataset: str, **values: float) -> RunRecord:
    split = {"values": values, "score": sum(values.values()) / len(values), "n": 6}
    return made(split["score"], f"dataset={dataset}", metrics={"validation": split})


def _write(file: Path, **columns: Any) -> Path:
    own = pa.table({"split": ["validation"] * 6, "row": ROWS, "label": LABELS, "answer": ANSWERS, **columns})
    other = pa.table({"split": ["train"], "row": [0], "label": [1], "answer": [0]})
    pq.write_table(pa.concat_tables([own, other], promote_options="permissive"), file)
    return file


def test_an_accuracy_is_its_examples_in_the_order_of_rows(tmp_path: Path) -> None:
    run = answers.pseudo_values(_record("sst2", accuracy=4 / 6), _write(tmp_path / "p.parquet"))
    assert run is not None
    assert run.units.tolist() == [0, 1, 3, 5, 7, 9]
    assert run.values.tolist() == [0, 1, 1, 1, 1, 0]


def test_a_score_of_two_metrics_is_their_mean(tmp_path: Path) -> None:
    values = registry.compute(["accuracy", "f1"], ANSWERS, LABELS)
    run = answers.pseudo_values(_record("mrpc", **values), _write(tmp_path / "p.parquet"))
    assert run is not None
    assert run.values.mean() == pytest.approx(sum(values.values()) / 2, abs=0.1)


def test_rows_that_are_scored_together_are_one_example(tmp_path: Path) -> None:
    groups = np.array([2, 2, 7, 7, 9, 9])
    values = registry.compute(["f1a", "em"], ANSWERS, LABELS, groups=groups)
    run = answers.pseudo_values(_record("multirc", **values), _write(tmp_path / "p.parquet", group=groups))
    assert run is not None
    assert run.units.tolist() == [0, 1, 3]


def test_predictions_of_another_run_are_not_believed(tmp_path: Path) -> None:
    assert answers.pseudo_values(_record("sst2", accuracy=0.5), _write(tmp_path / "p.parquet")) is None


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_what_cannot_be_read_is_missing(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "p.parquet"
    if content is not None:
        file.write_bytes(content)
    assert answers.pseudo_values(_record("sst2", accuracy=0.5), file) is None


def test_metrics_of_texts_have_no_pseudo_values(tmp_path: Path) -> None:
    texts = _write(tmp_path / "p.parquet")
    table = pq.read_table(texts).drop_columns(["answer"])
    pq.write_table(table.append_column("answer", pa.array(["a"] * 7)), texts)
    assert answers.pseudo_values(_record("sst2", rougeL=0.5), texts) is None


def test_texts_that_are_right_or_wrong(tmp_path: Path) -> None:
    table = pa.table(
        {
            "split": ["validation"] * 2,
            "row": [0, 1],
            "answer": ["a  b", "c"],
            "references": [["a b"], ["d", "e"]],
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    run = answers.pseudo_values(_record("sst2", exact_match=0.5), tmp_path / "p.parquet")
    assert run is not None
    assert run.values.tolist() == [1, 0]


def test_no_path_of_a_record_leads_out_of_the_folder(tmp_path: Path) -> None:
    record = _record("sst2", accuracy=0.5)
    assert answers.file(tmp_path, record) == tmp_path / "predictions/sst2/tiny_bert/lora" / f"{record.key}.parquet"
    record.key = "../../x"
    assert answers.file(tmp_path, record) is None
