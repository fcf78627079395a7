"""Learning curves: one Parquet file a run, of at most `MOST` points, so that a record stays small."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from peftbench.system import files

_log = logging.getLogger(__name__)

#: Points of a curve: a picture that is 1,000 pixels wide shows no more.
MOST = 200


class Point(TypedDict):
    """A point of a learning curve.

    Attributes:
        step: optimiser steps done; `examples`: training examples seen by then, in all epochs.
        seconds: of training by then, as `train_time_s` counts them.
        lr: the rate that the step was made with, of the optimiser's first parameter group.
        loss: the task's training loss, the mean over the steps since the last point that was taken, which is the one
            before unless that was left out to keep the curve short.
        selection_score: the score on the slice that checkpoints are selected on; null between evaluations.
    """

    step: int
    examples: int
    seconds: float
    lr: float
    loss: float
    selection_score: float | None


def thinned(points: Sequence[Point], *, always: int | None, most: int) -> list[Point]:
    """Points, at most `most`, in their order: the evaluations, and of the others as many as fit, evenly, the last among
    them. Of more evaluations than that, an even choice.

    Args:
        always: a step whose evaluation stays.
    """
    scored = [number for number, point in enumerate(points) if point["selection_score"] is not None]
    others = [number for number, point in enumerate(points) if point["selection_score"] is None]
    fixed = [number for number in scored if points[number]["step"] == always]
    if len(scored) > most:
        scored = [*_evenly([number for number in scored if number not in fixed], most - len(fixed)), *fixed]
    return [points[number] for number in sorted([*scored, *_evenly(others, most - len(scored))])]


def _evenly(numbers: Sequence[int], most: int) -> list[int]:
    """Some of the numbers, at most `most`, evenly, from the first to the last."""
    if len(numbers) <= most:
        return list(numbers)
    if most < 2:
        return list(numbers[-1:])[:most]
    return [numbers[round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)]


def write(file: Path, points: Sequence[Point]) -> None:
    """Write a curve, whole or not at all."""
    import pyarrow as pa  # Costs the command line a tenth of a second where no curve is asked for.
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([dict(point) for point in points], _schema())
    files.write(file, lambda temporary: pq.write_table(table, temporary))


def read(file: Path) -> list[Point] | None:
    """A curve's points by step; None where there is no such file, or it holds no curve (which is logged)."""
    if not _is_file(file):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as stored:
            if stored.metadata.num_rows > MOST:
                raise ValueError(f"{stored.metadata.num_rows} points, a curve has at most {MOST}")
            points: list[Any] = stored.read().select(_schema().names).cast(_schema()).to_pylist()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        _log.warning("%s: can't be read (%s)", file, error)
        return None
    return points


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # Its name is longer than a file's can be.
        return False


def _schema() -> Any:
    """The columns of the file (pyarrow.Schema)."""
    import pyarrow as pa

    whole, number = pa.int64(), pa.float64()
    types = {"step": whole, "examples": whole, "seconds": number, "lr": number, "loss": number}
    return pa.schema({**types, "selection_score": number})
