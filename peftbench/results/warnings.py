"""Warnings: what decides whether a number of a record means anything, each with a kind that programs can tell.

They follow from the record's figures, and stand in it (`RunRecord.warnings`) for whoever reads it without this package.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum
from statistics import NormalDist
from typing import Any

from peftbench.results import by_class, quality
from peftbench.results.records import RunRecord

#: The standard normal quantile of a two-sided 95 % interval.
_Z = NormalDist().inv_cdf(0.975)
#: A figure of `efficiency` for each thing that is timed, without which nothing is said of the machine.
_TIMED = {"train": "train_time_s", "inference": "inference_latency_ms"}


class WarningKind(StrEnum):
    """The subject of a warning."""

    #: The step that was selected is the last: more of them might have been better.
    STILL_IMPROVING = "still_improving"
    #: The 95 % interval of a metric reaches down to what one answer for all examples would score.
    NOT_ABOVE_MAJORITY = "not_above_majority"
    #: The best value of a search lies at the edge of what was searched.
    SEARCH_EDGE = "search_edge"
    #: Rows that are scored were trained on.
    ROWS_IN_TRAIN = "rows_in_train"
    #: Training, or inference, was timed on a busy machine (`quality.busy`).
    BUSY_TRAINING = "busy_training"
    BUSY_INFERENCE = "busy_inference"


#: A warning as a record has it: `kind`, and `text`, which says whose it is.
Warned = dict[str, str]


def noted(record: RunRecord) -> RunRecord:
    """The record with the warnings that follow from it as it stands; of any record, also one made before there were
    any."""
    return replace(record, warnings=list(of(record)) if record.status == "completed" else [])


def of(record: RunRecord) -> Iterator[Warned]:
    """Yields the warnings that follow from a completed record."""
    for kind, texts in _SAID.items():
        for text in texts(record):
            yield {"kind": str(kind), "text": text}


def _cell(record: RunRecord, *more: str) -> str:
    """The names of a record's cell, and what more tells it from others."""
    method, dataset, model = (record.config[group]["name"] for group in ("method", "dataset", "model"))
    return f"{method} on {dataset} ({', '.join((model, *more))})"


def _run(record: RunRecord) -> str:
    return _cell(record, f"seed {record.config.get('seed')}")


def _still_improving(record: RunRecord) -> Iterator[str]:
    chosen = record.selection or {}
    if (chosen.get("evaluations") or 0) > 1 and record.selected_step == chosen.get("last_step"):
        yield f"{_run(record)}: the step that scored best is the last: it may still have been improving"


def _not_above_majority(record: RunRecord) -> Iterator[str]:
    if (record.params or {}).get("trainable") in (0, None):  # A floor, which claims nothing.
        return
    for name in _headline(record.config["dataset"]):
        split = record.metrics.get(name) or {}
        for metric, value in (split.get("values") or {}).items():
            if value is None or not split.get("n"):
                continue
            if metric == "accuracy":
                yield from _accuracy(value, split, record, name)
            else:
                yield from _other(metric, value, split, f"{_run(record)}: the {metric} of {100 * value:.1f} on {name}")


def _accuracy(value: float, split: dict[str, Any], record: RunRecord, name: str) -> Iterator[str]:
    commonest, n = split.get("majority_fraction"), split["n"]
    if commonest is not None and (low := _wilson_low(value, n)) <= commonest:
        yield (
            f"{_run(record)}: the accuracy of {100 * value:.1f} % on {name} isn't above that of the commonest class "
            f"alone, {100 * commonest:.1f} % (n = {n}, its 95 % interval begins at {100 * low:.1f} %)"
        )


def _other(metric: str, value: float, split: dict[str, Any], begin: str) -> Iterator[str]:
    """Says it of a metric over labels, by how often each was answered as each, and of a correlation."""
    from peftbench.results.statistics import constant  # Brings SciPy: a plan reads records too.

    classes = by_class.recorded(split)
    if classes is not None:
        beside = constant.of_labels(metric, classes["confusion"])
    else:
        beside = constant.of_correlation(metric, value, split["n"])
    if beside is None or beside.low > beside.score:
        return
    labels = [] if classes is None else classes["labels"]
    answer = "a constant answer" if beside.answer is None else f"{labels[beside.answer]!r} for all"
    yield (
        f"{begin} isn't above that of {answer}, {100 * beside.score:.1f} "
        f"(n = {split['n']}, its 95 % interval begins at {100 * beside.low:.1f})"
    )


def _wilson_low(share: float, n: int) -> float:
    """The lower end of Wilson's 95 % interval of a share of n (Wilson 1927)."""
    middle = share + _Z**2 / (2 * n)
    return (middle - _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))) / (1 + _Z**2 / n)


def _at_edge(record: RunRecord) -> Iterator[str]:
    edges = (record.tuning or {}).get("at_edge") or {}
    for key, end in edges.items():
        low, high = record.tuning["search"][key]  # type: ignore[index]
        best = record.tuning["best"]["values"][key]  # type: ignore[index]
        yield (
            f"{_cell(record)}: the best {key} of its trials, {best:g}, lies at the {end} edge of what was searched, "
            f"{float(low):g} to {float(high):g}"
        )


def _rows_in_train(record: RunRecord) -> Iterator[str]:
    """Says it if rows of an evaluation split were trained on, for each such split."""
    for name, split in record.metrics.items():
        folded = (split or {}).get("rows_in_train_folded")
        if not split or not folded or "rows" not in split:
            continue
        dataset = _dataset(record, name)
        short = name.rpartition("/")[2]
        trained = " (the split that was trained on)" if short == dataset.get("train") else ""
        exact = split["rows_in_train"]
        how = "word for word" if exact == folded else f"{exact} of them word for word"
        yield (
            f"{dataset['name']}: {folded} of {split['rows']} scored rows of {short}{trained} are among the rows "
            f"trained on, up to case and white space ({how})"
        )


def _busy(record: RunRecord, what: str) -> Iterator[str]:
    efficiency = record.efficiency or {}
    had = efficiency.get(f"{what}_cores_fraction")
    if had is None or not quality.is_busy(had) or efficiency.get(_TIMED[what]) is None:
        return
    windows = efficiency.get("train_quiet_windows") if what == "train" else None
    rates = f"; its rates are medians over {windows:.0f} quiet stretches" if windows else ""
    doing = {"train": "training", "inference": "measuring inference"}[what]
    yield f"{_run(record)}: {doing} had {100 * had:.0f} % of its cores, others the rest{rates}"


def _headline(dataset: dict[str, Any]) -> list[str]:
    """The splits that a run is judged by, as `metrics` names them."""
    parts = [part for part in dataset.get("parts") or [] if isinstance(part, dict)]  # A record may be anyone's.
    splits = [f"{part.get('name')}/{split}" for part in parts for split in list(part.get("evaluation") or [])[:1]]
    return splits or list(dataset.get("evaluation") or [])[:1]


def _dataset(record: RunRecord, split: str) -> dict[str, Any]:
    """The data set that a split is of: in a mixture the part that its name begins with."""
    dataset: dict[str, Any] = record.config["dataset"]
    part = split.rpartition("/")[0]
    every = [*(dataset.get("parts") or []), *(dataset.get("held_out") or [])]
    return next((each for each in every if each["name"] == part), dataset)


#: By kind, what yields the texts of a record's warnings of that kind.
_SAID: dict[WarningKind, Callable[[RunRecord], Iterator[str]]] = {
    WarningKind.STILL_IMPROVING: _still_improving,
    WarningKind.NOT_ABOVE_MAJORITY: _not_above_majority,
    WarningKind.SEARCH_EDGE: _at_edge,
    WarningKind.ROWS_IN_TRAIN: _rows_in_train,
    WarningKind.BUSY_TRAINING: functools.partial(_busy, what="train"),
    WarningKind.BUSY_INFERENCE: functools.partial(_busy, what="inference"),
}
