"""What a run leaves beside its record: weights and predictions; and how many weights there were."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from torch import nn

from peftbench import files, quantize, redact
from peftbench.backbones import in_head
from peftbench.data.datamodule import TaskDataModule
from peftbench.data.encode import Encoded
from peftbench.methods.base import Method
from peftbench.module import gather
from peftbench.tasks.base import Task

_WEIGHT_FILES = ("*.safetensors", "*.bin")


def count(model: nn.Module, head: list[str]) -> dict[str, int | None]:
    """Trainable weights in all, outside the head (`adapter`) and in it; and all weights of the model.

    Read after the optimiser is built: LoRA-FA freezes weights only then. peft keeps the untrained head beside the
    trained copy; that one isn't counted.
    """
    parameters = [(name, p) for name, p in model.named_parameters() if "original_module" not in name.split(".")]
    trained = {name: quantize.numel(p) for name, p in parameters if p.requires_grad}
    in_the_head = sum(size for name, size in trained.items() if in_head(name, head))
    trainable = sum(trained.values())
    return {
        "trainable": trainable,
        "adapter": trainable - in_the_head,
        "head": in_the_head,
        "total": sum(quantize.numel(p) for _, p in parameters),
    }


def save(method: Method, model: nn.Module, folder: Path, *, keep: bool) -> int:
    """Save what was trained; returns the bytes of its weight files. `keep=False` measures and deletes."""
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


def write_predictions(file: Path, data: TaskDataModule, kept: dict[str, list[dict[str, Any]]], task: Task) -> None:
    """Every scored example: split, row in the split's file, label, answer and what it was decided from; group,
    candidate and right texts where the score is made of those."""
    tables = []
    for name, batches in kept.items():
        examples = data.slices[name]
        assert examples is not None
        tables.append(_predictions(name, examples, gather(batches), task))
    files.write(
        file, lambda temporary: pq.write_table(pa.concat_tables(tables, promote_options="permissive"), temporary)
    )


def _predictions(name: str, examples: Encoded, predictions: Any, task: Task) -> pa.Table:
    columns = {
        "split": pa.array([name] * len(examples)),
        "row": pa.array(examples.rows.numpy()),
    }
    if task.generates:
        columns["answer"] = pa.array(predictions, pa.string())
        if examples.references is None:
            columns["label"] = pa.array(examples.labels.numpy())
    else:
        columns |= {
            "label": pa.array(examples.labels.numpy()),
            "answer": pa.array(task.decide(predictions)),
            # An example with fewer choices than another has fewer scores.
            "scores": pa.array([row[row != -np.inf] for row in predictions.astype(np.float32)]),
        }
    if examples.groups is not None:
        columns["group"] = pa.array(examples.groups.numpy())
    if examples.candidates is not None:
        columns["candidate"] = pa.array(examples.candidates, pa.string())
    if examples.references is not None:
        columns["references"] = pa.array(examples.references, pa.list_(pa.string()))
    return pa.table(columns)
