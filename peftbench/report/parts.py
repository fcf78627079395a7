"""Mixtures part by part: the metrics of every data set that one adapter was trained on."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from peftbench.records import RunRecord


@dataclass(frozen=True)
class PartScore:
    """A metric of one split of a part, over seeds: of the row (method, model, variant) and the mixture's column.

    `mean` and `std` are fractions; `std` is None for one seed.
    """

    row: tuple[str, str, str]
    column: str
    split: str
    metric: str
    mean: float
    std: float | None
    n: int


def part_scores(records: Iterable[RunRecord], cells: Mapping[str, tuple[Any, str]]) -> list[PartScore]:
    """Every part's metrics of every mixture, in a fixed order.

    Args:
        cells: by record key, its row and column.
    """
    found: dict[tuple[Any, str, str, str], list[float]] = defaultdict(list)
    for record in records:
        if not record.config["dataset"].get("parts"):
            continue
        for split in record.config["dataset"]["evaluation"]:
            scored = record.metrics.get(split) or {}
            for metric, value in (scored.get("values") or {}).items():
                if value is not None:
                    found[(*cells[record.key], split, metric)].append(value)
    return [
        PartScore(*name, statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else None, len(v))
        for name, v in ((name, sorted(values)) for name, values in sorted(found.items()))
    ]
