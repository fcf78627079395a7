"""Tables of what tuning made models forget: scores on benchmarks before and after, for every cell that has them."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftbench.results.records import RunRecord
from peftbench.system import fingerprint

NOTE = """\
The share of right answers before and after tuning, in percent, and the difference with its standard error: the same
questions are asked twice, so their answers are paired. It is the error of having asked these questions and not others;
more runs of a cell don't make it smaller.
"""

#: What is averaged over a cell's runs.
_FIGURES = ("before", "after", "difference", "difference_se")


@dataclass(frozen=True)
class Forgot:
    """A benchmark in one cell, as fractions: means over its runs, of which each asked the same n `questions` (a hash).
    `cut` of the prompts were too long for the model."""

    row: tuple[str, str, str]
    column: str
    benchmark: str
    questions: str
    n: int
    cut: int
    runs: int
    before: float
    after: float
    difference: float
    difference_se: float | None


def collect(records: Iterable[RunRecord], cells: Mapping[int, tuple[tuple[str, str, str], str]]) -> list[Forgot]:
    """The answers of all runs, averaged by row, column, benchmark and set of questions.

    Args:
        cells: by a record's `id` its row and column.
    """
    by_cell: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        for name, answers in (record.forgetting or {}).items():
            # Runs that asked other questions are never averaged.
            questions = fingerprint.of_json([answers["n"], sorted(answers["parts"]), answers["data_fingerprint"]])[:8]
            asked = (questions, answers["n"], answers["cut"])
            by_cell[*cells[id(record)], name, asked].append(answers)
    return [
        Forgot(
            *(row, column, name),
            questions=asked[0],
            n=asked[1],
            cut=asked[2],
            runs=len(answered),
            **{k: _mean(answered, k) for k in _FIGURES},  # type: ignore[arg-type]
        )
        for (row, column, name, asked), answered in sorted(by_cell.items(), key=lambda item: item[0])
    ]


def _mean(answers: list[dict[str, Any]], figure: str) -> float | None:
    """The mean of a figure over runs, added up in sorted order: the last digit mustn't depend on the records' order."""
    values = [run[figure] for run in answers]
    return None if None in values else statistics.fmean(sorted(values))


def by_heading(benchmarks: Sequence[Forgot]) -> dict[str, dict[tuple[str, str, str], float | None]]:
    """The figures as columns: by heading and row. Other questions make other columns, whose headings say which."""
    columns: dict[str, dict[tuple[str, str, str], float | None]] = defaultdict(dict)
    for one, asked in zip(benchmarks, _suffixes(benchmarks), strict=True):
        for figure in _FIGURES:
            columns[f"{one.column}_{one.benchmark}{asked}_{figure}"][one.row] = getattr(one, figure)
    return dict(columns)


def _suffixes(benchmarks: Sequence[Forgot]) -> list[str]:
    """A suffix for each benchmark, which names its questions, where others of that name were asked too, and how many of
    them were cut, where that differs within a row; else ""."""
    sets: dict[Any, set[str]] = defaultdict(set)
    cuts: dict[Any, set[int]] = defaultdict(set)
    for one in benchmarks:
        sets[one.column, one.benchmark].add(one.questions)
        cuts[one.row, one.column, one.benchmark, one.questions].add(one.cut)
    return [
        (f"_{one.questions}" if len(sets[one.column, one.benchmark]) > 1 else "")
        + (f"_{one.cut}_cut" if len(cuts[one.row, one.column, one.benchmark, one.questions]) > 1 else "")
        for one in benchmarks
    ]


#: The table's headings.
COLUMNS = ("method", "model", "data set", "benchmark", "questions", "runs", "before", "after", "difference")


def lines(benchmarks: Sequence[Forgot], names: Mapping[tuple[str, str, str], str] | None = None) -> list[list[str]]:
    """A table's lines, under `COLUMNS`.

    Args:
        names: what a row is called in the table; None: by method and variant.
    """
    whole = {one.row: f"{one.row[0]} ({one.row[2]})" if one.row[2] else one.row[0] for one in benchmarks}
    return [
        [
            (names or whole)[one.row],
            one.row[1],
            one.column,
            one.benchmark + asked.replace("_", " "),
            f"{one.n}" + (f" ({one.cut} cut)" if one.cut else ""),
            str(one.runs),
            f"{100 * one.before:.1f}",
            f"{100 * one.after:.1f}",
            f"{100 * one.difference:+.1f}" + ("" if one.difference_se is None else f" ± {100 * one.difference_se:.1f}"),
        ]
        for one, asked in zip(benchmarks, _suffixes(benchmarks), strict=True)
    ]
