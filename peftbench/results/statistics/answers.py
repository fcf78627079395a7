"""A run's answers, example by example, as pseudo-values of its score: from the predictions beside its record."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.statistics import corpus, jackknife
from peftbench.results.statistics.jackknife import Jackknife

#: How far a metric made anew may lie from the record's: its own rounding.
SAME = 1e-6
#: What may stand among the values of a split without being a part of its score (`bertscore_model`).
_BESIDE = "bertscore"
#: Columns of predictions: how that of a metric of texts begins, with lists of what it makes of an example; and what
#: written labels and numbers count as.
EXAMPLE, COUNTS_AS = "example_", "counts_as"
#: Columns that are read beside `split`; of these the texts, which aren't needed where there is what was made of them.
_COLUMNS = ("row", "label", "answer", "group", "candidate", "references", COUNTS_AS)
_TEXTS = ("answer", "candidate", "references")


@dataclass(frozen=True)
class Examples:
    """The scores of a run on each example.

    Attributes:
        units: (N,) ascending numbers that tell examples apart: the first row of each in the split's file.
        values: (N,) pseudo-values of the score: of an accuracy 0 or 1.
    """

    units: np.ndarray
    values: np.ndarray


def file(root: Path, record: RunRecord) -> Path | None:
    """The file of a record's predictions; None: its names are no folders' names."""
    parts = [*(str(record.config[group]["name"]) for group in ("dataset", "model", "method")), f"{record.key}.parquet"]
    if any(Path(part).name != part for part in parts):  # A record from elsewhere may name any path.
        return None
    return root.joinpath(Folder.PREDICTIONS, *parts)


def pseudo_values(record: RunRecord, predictions: Path) -> Examples | None:
    """The pseudo-values of a record's score from its predictions.

    None where there is no file, it lacks what a metric needs (of the user's own metrics always), or the metrics of what
    it holds aren't the record's: then it is another run's.
    """
    split = (record.config["dataset"].get("evaluation") or [None])[0]
    table = _table(predictions, split)
    scored = record.metrics.get(split) if split is not None else None
    recorded = (scored or {}).get("values") or {}
    recorded = {n: v for n, v in recorded.items() if n != _BESIDE or len(recorded) == 1}
    if table is None or not recorded:
        return None
    units, groups = _units(table)
    metrics = [_metric(name, table, groups) for name in recorded]
    if any(metric is None for metric in metrics):
        return None
    made = [metric for metric in metrics if metric is not None]
    if any(
        value is None or abs(metric.whole - value) > SAME for metric, value in zip(made, recorded.values(), strict=True)
    ):
        return None
    order = np.argsort(units, kind="stable")
    return Examples(units[order], np.mean([metric.values for metric in made], axis=0)[order])


def _table(predictions: Path, split: str | None) -> dict[str, Any] | None:
    """The columns that are needed, of one split's rows; None where they can't be had."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if split is None or not os.path.isfile(predictions):  # False too for a name that no file can have.
        return None
    try:
        with pq.ParquetFile(predictions) as stored:
            names = stored.schema_arrow.names
            made = [name for name in names if name == COUNTS_AS or name.startswith(EXAMPLE)]
            others = [name for name in _COLUMNS if name in names and not (made and name in (*_TEXTS, *made))]
            table = stored.read(columns=["split", *others, *made], use_threads=False)  # Small: threads cost more.
        table = table.filter(pc.equal(table["split"], split)).combine_chunks()
        return _plain(table) if table.num_rows else None
    except (OSError, ValueError, KeyError, pa.ArrowException):
        return None


def _plain(table: Any) -> dict[str, Any]:
    """The columns that have no gaps, by name, as arrays, texts as lists; of lists of what metrics make of an example
    the rows that have one, (u,), and these, (u, k). Raises ValueError where they aren't of one length."""
    import pyarrow as pa

    plain: dict[str, Any] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name.startswith(EXAMPLE):
            rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            if len(rows):
                plain[name] = rows, column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
        elif column.null_count == 0 and name != "split":
            number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            plain[name] = column.to_numpy() if number else column.to_pylist()
    plain["answer"] = plain.get(COUNTS_AS, plain.get("answer"))
    plain["row"] = plain["row"]  # KeyError where it has gaps: it tells examples apart.
    return plain


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
    if EXAMPLE + name in table:
        rows, numbers = table[EXAMPLE + name]
        order = np.argsort(groups[rows], kind="stable")
        whole = np.array_equal(groups[rows][order], np.arange(int(groups.max()) + 1))  # One list for each unit.
        return corpus.pseudo_values(name, numbers[order]) if whole else None
    if isinstance(table["answer"], list):
        plain = "references" in table and not {"group", "candidate"} & table.keys()
        return _exact(table) if plain and name == "exact_match" else None
    # A group's answer may be one of its candidates: its metrics compare texts.
    if table["answer"] is None or name not in jackknife.METRICS or "label" not in table or "candidate" in table:
        return None
    return jackknife.METRICS[name](table["answer"], table["label"], groups)


def _exact(table: dict[str, Any]) -> Jackknife:
    """The jackknife of exact matches: 1 where a text is one of the right ones, white space at the ends and its width
    aside."""
    same = [
        " ".join((text or "").split()) in {" ".join(right.split()) for right in texts}
        for text, texts in zip(table["answer"], table["references"], strict=True)
    ]
    return jackknife.from_scores(np.array(same, float))
