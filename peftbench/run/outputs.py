"""What a run leaves beside its record: trained weights and predictions."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.data.examples import NO_LABEL
from peftbench.methods.base import Method
from peftbench.results.records import RunRecord
from peftbench.results.report import card
from peftbench.results.statistics import answers, kept
from peftbench.run.training.tuner import gather
from peftbench.system import files, redact
from peftbench.tasks.base import Generating, Task

_log = logging.getLogger(__name__)

_WEIGHT_FILES = ("*.safetensors", "*.bin")


def save(method: Method, model: nn.Module, folder: Path, *, keep: bool) -> int:
    """Save what was trained; returns the bytes of its weight files. With `keep=False` it is deleted once measured."""
    size = 0

    def fill(temporary: Path) -> None:
        nonlocal size
        method.save(model, temporary)
        redact.folder(temporary, ("*.json", "*.md"))
        size = sum(file.stat().st_size for pattern in _WEIGHT_FILES for file in temporary.rglob(pattern))

    files.write_folder(folder, fill)
    if not keep or not any(folder.iterdir()):
        shutil.rmtree(folder)
    return size


def write_card(folder: Path, record: RunRecord) -> None:
    """Write a model card into the folder of a run's weights, in the place of peft's empty one."""
    if folder.is_dir():
        (folder / "README.md").write_text(redact.redact(card.text(record)), encoding="utf-8")


def write_predictions(file: Path, data: TaskDataModule, predicted: dict[str, list[dict[str, Any]]], task: Task) -> None:
    """Write a Parquet file with a row for each scored example: its split, its row in the split's file, its label, the
    answer and the scores that decided it; the names of label and answer where the classes have names; its group,
    candidate and references where the score needs them; where answers are texts, what an interval needs
    (`_statistics`).

    Args:
        predicted: by slice what `FineTuner.predict` returned.
    """
    tables = []
    for name, batches in predicted.items():
        examples = data.slices[name]
        assert examples is not None
        tables.append(_predictions(name, examples, gather(batches), task, data.label_names(name)))
    files.write(
        file, lambda temporary: pq.write_table(pa.concat_tables(tables, promote_options="permissive"), temporary)
    )


def write_texts(file: Path, data: TaskDataModule, texts: dict[str, list[str]], task: Task) -> None:
    """`write_predictions` for answers that are texts already, by slice, in the order of its examples."""
    predicted = {
        name: [{"predictions": answers, "index": torch.arange(len(answers))}] for name, answers in texts.items()
    }
    write_predictions(file, data, predicted, task)


def scored_by_example(record: RunRecord, predictions: Path) -> RunRecord:
    """The record with its scores by example (`kept`); as it is where the predictions aren't there, or say too much."""
    by_example = None
    try:
        examples = answers.pseudo_values(record, predictions)
        by_example = None if examples is None else kept.described(kept.keep(examples))
    except Exception:  # The score is there, and is worth more than what its interval is read from.
        _log.exception("the record carries no scores by example")
    if by_example is None:
        return record
    split = record.config["dataset"]["evaluation"][0]
    return replace(record, metrics={**record.metrics, split: {**(record.metrics[split] or {}), kept.FIELD: by_example}})


def _predictions(
    name: str, examples: Encoded, predictions: Any, task: Task, labels: Sequence[str] | None = None
) -> pa.Table:
    """The rows of one slice.

    Args:
        predictions: of all examples, as `gather` returns them.
        labels: the classes' names by index; None: there are no classes.
    """
    columns = {
        "split": pa.array([name] * len(examples)),
        "row": pa.array(examples.rows.numpy()),
    }
    if task.generates:
        columns["answer"] = pa.array(predictions, pa.string())
        if examples.references is None or bool((examples.labels != NO_LABEL).any()):
            columns["label"] = pa.array(examples.labels.numpy())
    else:
        columns |= {
            "label": pa.array(examples.labels.numpy()),
            "answer": pa.array(task.decide(predictions)),
            # An example with fewer choices than another has fewer scores.
            "scores": pa.array([row[row != -np.inf] for row in predictions.astype(np.float32)]),
        }
    if labels:
        numbers = {name: columns.get(name) for name in ("label", "answer")}  # An answer may be a text that was written.
        columns |= {
            f"{name}_name": _named(column, labels)
            for name, column in numbers.items()
            if column is not None and pa.types.is_integer(column.type)
        }
    if examples.groups is not None:
        columns["group"] = pa.array(examples.groups.numpy())
    if examples.candidates is not None:
        columns["candidate"] = pa.array(examples.candidates, pa.string())
    if examples.references is not None:
        columns["references"] = pa.array(examples.references, pa.list_(pa.string()))
    if not examples.hidden:
        columns |= _statistics(predictions, examples, task)
    return pa.table(columns)


def _statistics(predictions: Any, examples: Encoded, task: Task) -> dict[str, pa.Array]:
    """The figures that intervals are made of where answers are texts: of metrics of texts what they make of each
    example (`metrics.by_example`); of labels and numbers that were written, what the texts count as."""
    columns = {
        answers.EXAMPLE + name: pa.array(numbers, pa.list_(pa.float64()))
        for name, numbers in task.statistics(predictions, examples).items()
    }
    if task.generates and examples.references is None:
        columns[answers.COUNTS_AS] = pa.array(cast(Generating, task).answered(predictions, examples).answers)
    return columns


def _named(numbers: pa.Array, labels: Sequence[str]) -> pa.Array:
    """The names of classes that are given by index, each stored once; null for a label that is hidden."""
    names = [labels[number] if 0 <= number < len(labels) else None for number in numbers.to_pylist()]
    return pa.array(names, pa.dictionary(pa.int32(), pa.string()))
