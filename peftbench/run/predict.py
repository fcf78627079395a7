"""Answers of a finished run's model to texts of the user's: what `peftbench predict` starts by the name of `answer`."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from peftbench.config.types import RunConfig
from peftbench.data import formats, labels
from peftbench.data.encode import Encoded, encode
from peftbench.data.examples import NO_LABEL, Reader
from peftbench.data.kinds import ValueKind
from peftbench.data.sampler import by_length
from peftbench.errors import ConfigError
from peftbench.run.reloading import Reloaded, reload
from peftbench.run.training.tuner import gather
from peftbench.system import fingerprint
from peftbench.system.process_group import Emit

#: By kind of column, what stands for an answer that isn't known.
_UNKNOWN: dict[ValueKind, Any] = {
    ValueKind.LABEL: NO_LABEL,
    ValueKind.NUMBER: NO_LABEL,
    ValueKind.CHOICE: NO_LABEL,
    ValueKind.ANSWERS: [""],
}


def answer(path: str, file: str, how: dict[str, Any], emit: Emit) -> None:
    """Emits {"result": {"columns": names, "rows": one list a row of the file}}: the file's text columns, then the
    answer and how sure the model is of it; or {"problem": text} for what is the user's to mend.

    Args:
        path: of the record.
        file: CSV, JSON lines or Parquet with the text columns of the run's data set.
        how: `format`, `separator`, `encoding` of the file; `merged`, `model_root` as `reload`.
    """
    try:
        reloaded = reload(path, model_root=how["model_root"], merged=how["merged"])
        table = read(Path(file), reloaded, how)
        emit({"result": answered(reloaded, table)})
    except ConfigError as error:
        emit({"result": {"problem": str(error)}})


def read(file: Path, reloaded: Reloaded, how: dict[str, Any]) -> pa.Table:
    """The rows of a file as the run's reader takes them, without answers.

    Raises:
        ConfigError: the file can't be read, lacks a column, or has a value that the reader can't take.
    """
    reader = reloaded.task.reader
    asked = [role for role in reader.roles if role.kind not in _UNKNOWN and role.key != "group"]
    chosen = {"form": how["format"], "separator": how["separator"], "encoding": how["encoding"]}
    columns = formats.read(file, [role.column for role in asked], **chosen)
    values: dict[str, Any] = {}
    for role in asked:
        if role.column not in columns.values:
            names = ", ".join(columns.names)
            raise ConfigError(f"{file}: has no column {role.column}, which this model reads; it has {names}")
        values[role.column] = labels.array(columns.values[role.column], role, file.name)
    for role in reader.roles:
        if role.kind in _UNKNOWN:
            values[role.column] = pa.array([_UNKNOWN[role.kind]] * columns.rows)
        elif role.key == "group":
            values[role.column] = pa.array([str(row) for row in range(columns.rows)])
    if not columns.rows:
        raise ConfigError(f"{file}: has no rows")
    table = pa.table(values)
    reader.check(table, file.name)
    return table


def answered(reloaded: Reloaded, table: pa.Table) -> dict[str, Any]:
    """The text columns of a table, with each row's answer; see `answer`."""
    config, task = reloaded.config, reloaded.task
    reader: Reader = task.reader
    predictions = _predict(reloaded, table)
    rows = [[row[name] for name in config.dataset.text] for row in table.to_pylist()]
    columns = list(config.dataset.text)
    if task.generates:
        return {"columns": [*columns, "answer"], "rows": [[*r, p] for r, p in zip(rows, predictions, strict=True)]}
    decided = task.decide(predictions)
    if reader.answers == "numbers":
        return {"columns": [*columns, "answer"], "rows": [[*r, float(p)] for r, p in zip(rows, decided, strict=True)]}
    shares = _softmax(predictions)[np.arange(len(decided)), decided]
    names = config.dataset.labels
    decided_labels = [names[i] if names else int(i) for i in decided.tolist()]
    together = zip(rows, decided_labels, shares.tolist(), strict=True)
    return {"columns": [*columns, "label", "probability"], "rows": [[*r, name, share] for r, name, share in together]}


def _predict(reloaded: Reloaded, table: pa.Table) -> Any:
    """The predictions of all rows in their order, as `gather` gives them."""
    config, task = reloaded.config, reloaded.task
    with tempfile.TemporaryDirectory() as cache:
        examples = encode(
            task,
            reloaded.tokenizer,
            read=lambda: task.reader.examples(table, np.arange(table.num_rows)),
            max_length=config.recipe.max_length,
            cache=Path(cache),
            identity=fingerprint.of_json(table.to_pylist()),
        )
        batches = by_length(examples.lengths, config.hardware.eval_batch_size)
        with torch.inference_mode(), precision(config):
            return gather([reloaded.tuner.predict(_batch(examples, rows)) for rows in batches])


def _batch(examples: Encoded, rows: list[int]) -> Any:
    return examples.collate(rows)


def precision(config: RunConfig) -> Any:
    """The context of a run's forward passes on a CPU (autocast)."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.hardware.precision == "bf16-mixed")


def _softmax(logits: np.ndarray) -> np.ndarray:
    """(n, labels) probabilities; 0 where an example has fewer answers."""
    logits = logits.astype(np.float64)
    shares: np.ndarray = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
