"""Every task type with answers as text."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from peftbench.config import compose
from peftbench.data.examples import Example
from peftbench.tasks import table
from tests.helpers.built import Built
from tests.helpers.hub_runs import ONE_EACH


@pytest.mark.parametrize("model", ["tiny_t5", "tiny_bart"])
@pytest.mark.parametrize("name", [*dict.fromkeys([*ONE_EACH.values(), "multirc", "record", "copy"])])
def test_every_task_type_runs_as_text(recorded: Callable, name: str, model: str) -> None:
    """Rows, training steps, written answers, the data set's own metrics."""
    few = ["recipe.train_samples=12", "recipe.eval_samples=8", "recipe.max_steps=2", "recipe.max_length=200"]
    record, places = recorded(f"dataset={name}", f"model={model}", "method=full", "formulation=text", *few)
    data, split = record.config["dataset"], record.config["dataset"]["evaluation"][0]
    assert record.status == "completed"
    assert set(record.metrics[split]["values"]) == set(data["metrics"])
    assert all(-1 <= value <= 1 for value in record.metrics[split]["values"].values())
    kept = pq.read_table(places.predictions)
    assert kept.schema.field("answer").type == pa.string()
    assert {"label", "references"} & set(kept.column_names)


def test_every_task_type_can_be_written() -> None:
    types = {type_ for type_, _ in table.TASKS} - {"mixture"}
    assert {type_ for type_, way in table.TASKS if way == "text"} == types | {"mixture"}
    tested = {compose.one([f"dataset={name}"]).dataset.task for name in [*ONE_EACH.values(), "copy"]}
    assert tested == types


def test_numbers_are_written_in_steps_and_read_back(made: Callable) -> None:
    """T5's rounding; for what is no number the end of the right ones' range that is farther from its own."""
    case = Built(made("dataset=stsb", "model=tiny_t5", "formulation=text", "method=full"))
    written = [case.task.right(Example(0, {}, label)) for label in (0.0, 2.57, 3.3, 4.71, 5.0)]
    assert written == ["0.0", "2.6", "3.2", "4.8", "5.0"]

    class Split:
        labels = torch.tensor([0.0, 2.5, 5.0, 4.0])

    values = case.task.score(["0.0", " 2.4 ", "5", "four"], Split())
    assert values["pearson"] == pytest.approx(np.corrcoef([0.0, 2.4, 5.0, 0.0], Split.labels)[0, 1])


def test_a_gap_is_answered_by_its_name(made: Callable) -> None:
    case = Built(made("dataset=record", "model=tiny_t5", "formulation=text", "method=full"))
    assert len(case.data.train) == case.data.train.row_count
    line = case.data.train.collate([0])
    text = case.context.tokenizer.decode(line["input_ids"][0], skip_special_tokens=True)
    assert "@placeholder who won" in text
    answer = case.context.tokenizer.decode(line["targets"][0], skip_special_tokens=True)
    assert answer == case.data.train.references[0][0]
    right = [others[0] for others in case.data.train.references]
    assert case.task.score(right, case.data.train) == {"record_f1": 1.0, "record_em": 1.0}
