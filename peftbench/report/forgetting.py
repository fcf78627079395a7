"""What tuning made the models forget: benchmarks before and after, of every cell whose runs asked them."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftbench import fingerprint
from peftbench.records import RunRecord

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
    """By row, column and benchmark.

    Args:
        cells: by a record's `id` its row and column.
    """
    found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        for name, answers in (record.forgetting or {}).items():
            # Runs that asked other questions are never averaged.
            questions = fingerprint.of_json([answers["n"], sorted(answers["parts"]), answers["data_fingerprint"]])[:8]
            asked = (questions, answers["n"], answers["cut"])
            found[*cells[id(record)], name, asked].append(answers)
    return [
        Forgot(
            *(row, column, name),
            questions=asked[0],
            n=asked[1],
            cut=asked[2],
            runs=len(of),
            **{k: _mean(of, k) for k in _FIGURES},  # type: ignore[arg-type]
        )
        for (row, column, name, asked), of in sorted(found.items(), key=lambda item: item[0])
    ]


def _mean(answers: list[dict[str, Any]], figure: str) -> float | None:
    """Of sorted values: the last digit mustn't depend on the order."""
    values = [found[figure] for found in answers]
    return None if None in values else statistics.fmean(sorted(values))


def by_heading(found: Sequence[Forgot]) -> dict[str, dict[tuple[str, str, str], float | None]]:
    """The figures as columns: by heading and row. Other questions make other columns, whose headings say which."""
    columns: dict[str, dict[tuple[str, str, str], float | None]] = defaultdict(dict)
    for of, asked in zip(found, _told_apart(found), strict=True):
        for figure in _FIGURES:
            columns[f"{of.column}_{of.benchmark}{asked}_{figure}"][of.row] = getattr(of, figure)
    return dict(columns)


def _told_apart(found: Sequence[Forgot]) -> list[str]:
    """Of each what tells its questions from others of the same name; "" where there are none. How many were cut, too,
    where one row has several."""
    sets: dict[Any, set[str]] = defaultdict(set)
    cuts: dict[Any, set[int]] = defaultdict(set)
    for of in found:
        sets[of.column, of.benchmark].add(of.questions)
        cuts[of.row, of.column, of.benchmark, of.questions].add(of.cut)
    return [
        (f"_{of.questions}" if len(sets[of.column, of.benchmark]) > 1 else "")
        + (f"_{of.cut}_cut" if len(cuts[of.row, of.column, of.benchmark, of.questions]) > 1 else "")
        for of in found
    ]


#: The table's headings.
COLUMNS = ("method", "model", "data set", "benchmark", "questions", "runs", "before", "after", "difference")


def lines(found: Sequence[Forgot]) -> list[list[str]]:
    """A table's lines, under `COLUMNS`."""
    return [
        [
            f"{of.row[0]} ({of.row[2]})" if of.row[2] else of.row[0],
            of.row[1],
            of.column,
            of.benchmark + asked.replace("_", " "),
            f"{of.n}" + (f" ({of.cut} cut)" if of.cut else ""),
            str(of.runs),
            f"{100 * of.before:.1f}",
            f"{100 * of.after:.1f}",
            f"{100 * of.difference:+.1f}" + ("" if of.difference_se is None else f" ± {100 * of.difference_se:.1f}"),
        ]
        for of, asked in zip(found, _told_apart(found), strict=True)
    ]
