"""A run's answers, example by example, as pseudo-values of its score: from the predictions beside its record."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.statistics import jackknife
from peftbench.results.statistics.jackknife import Jackknife

#: How far a metric made anew may lie from the record's: its own rounding.
_SAME = 1e-6


@dataclass(frozen=True)
class Examples:
    """What a run scored on each example.

    Attributes:
        units: (N,) ascending numbers that tell examples apart: the first row of each in the split's file.
        values: (N,) pseudo-values of the score: of an accuracy 0 or 1.
    """

    units: np.ndarray
    values: np.ndarray


def file(root: Path, record: RunRecord) -> Path | None:
    """Where a record's predictions are; None: its names are no folders' names."""
    parts = [*(str(record.config[group]["name"]) for group in ("dataset", "model", "method")), f"{record.key}.parquet"]
    if any(Path(part).name != part for part in parts):  # A record from elsewhere may name any path.
        return None
    return root.joinpath(Folder.PREDICTIONS, *parts)


def pseudo_values(record: RunRecord, predictions: Path) -> Examples | None:
    """The pseudo-values of a record's score from its predictions.

    None where there is no file, a metric has none (ROUGE, BLEU and chrF need the texts' own scorers), or the metrics of
    what the file holds aren't the record's: then it is another run's.
    """
    split = (record.config["dataset"].get("evaluation") or [None])[0]
    table = _table(predictions, split)
    scored = record.metrics.get(split) if split is not None else None
    recorded = (scored or {}).get("values") or {}
    if table is None or not recorded:
        return None
    units, groups = _units(table)
    metrics = [_metric(name, table, groups) for name in recorded]
    if any(metric is None for metric in metrics):
        return None
    made = [metric for metric in metrics if metric is not None]
    if any(
        value is None or abs(metric.whole - value) > _SAME
        for metric, value in zip(made, recorded.values(), strict=True)
    ):
        return None
    order = np.argsort(units, kind="stable")
    return Examples(units[order], np.mean([metric.values for metric in made], axis=0)[order])


def matrix(runs: list[Examples | None]) -> np.ndarray | None:
    """(S, N) scores of several seeds; None where one is missing or the examples aren't the same."""
    first = runs[0] if runs else None
    if first is None:
        return None
    for run in runs:
        if run is None or not np.array_equal(run.units, first.units):
            return None
    return np.stack([run.values for run in runs if run is not None])


def _table(predictions: Path, split: str | None) -> dict[str, Any] | None:
    """The columns that are needed, of one split's rows; None where they can't be had."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if split is None or not predictions.is_file():
        return None
    try:
        with pq.ParquetFile(predictions) as stored:
            wanted = {"split", "row", "label", "answer", "group", "candidate", "references"}
            columns = [name for name in stored.schema_arrow.names if name in wanted]
            table = stored.read(columns=columns)
        table = table.filter(pc.equal(table["split"], split))
        texts = pa.types.is_string(table["answer"].type) or pa.types.is_large_string(table["answer"].type)
        plain = {"row": table["row"].to_numpy()}
        plain["answer"] = table["answer"].to_pylist() if texts else table["answer"].to_numpy()
        for name in ("label", "group"):
            if name in table.column_names and table[name].null_count == 0:
                plain[name] = table[name].to_numpy()
        if "references" in table.column_names and table["references"].null_count == 0:
            plain["references"] = table["references"].to_pylist()
        if "candidate" in table.column_names and table["candidate"].null_count < table.num_rows:
            return None  # A group's answer is one of its candidates, and its metrics compare texts.
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None
    return plain if table.num_rows else None


def _units(table: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(N,) first rows of the units, and (n,) unit of each row."""
    rows = table["row"]
    if "group" not in table:
        return rows, np.arange(len(rows))
    _, groups = np.unique(table["group"], return_inverse=True)
    first = np.full(int(groups.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, groups, rows)
    return first, groups


def _metric(name: str, table: dict[str, Any], groups: np.ndarray) -> Jackknife | None:
    """A metric of these answers; None where it can't be made of them."""
    if isinstance(table["answer"], list):
        grouped = "group" in table
        return None if grouped or name != "exact_match" or "references" not in table else _exact(table)
    if name not in jackknife.METRICS or "label" not in table:
        return None
    return jackknife.METRICS[name](table["answer"], table["label"], groups)


def _exact(table: dict[str, Any]) -> Jackknife:
    """Whether a text is one of the right ones, white space at the ends and its width aside."""
    same = [
        " ".join((text or "").split()) in {" ".join(right.split()) for right in texts}
        for text, texts in zip(table["answer"], table["references"], strict=True)
    ]
    return jackknife.from_scores(np.array(same, float))
