"""The page's part "Findings": sayings that were put to the test, each with its numbers and one picture."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from peftbench.results.report.page.document import Axis, Chart, Ends, Folded, Mark, MarkedAxis, Section, Table

if TYPE_CHECKING:
    from peftbench.results.reproduction.answers import CheckResult
    from peftbench.results.reproduction.findings import Result
    from peftbench.results.reproduction.tested import Tested

HEADING = "Findings"
NOTE = """\
Sayings of the field, put to the test by runs made here; what is compared, and by how much, was fixed before. A saying
holds where the whole 90 % interval lies within what was said (the band), doesn't where all of it lies outside, and else
nothing can be told.
"""
#: The table's headings.
COLUMNS = ("finding", "statement", "answer")
#: Comparisons of a check that are drawn, at most: of ten cells there are 45 pairs.
_MOST = 30


def section(tested: Sequence["Tested"]) -> Section:
    """The part of the page, of one finding at least."""
    return Section(
        id="findings",
        title=HEADING,
        note=NOTE,
        tables=[Table("Sayings and answers", COLUMNS, lines(tested), left=3)],
        pictures=[drawn for one in tested if (drawn := chart(one.name, one.result)) is not None],
        folded=[Folded(f"{one.name}: {one.result.answer}", facts(one.result)) for one in tested],
        unfolded=True,
    )


def lines(tested: Sequence["Tested"]) -> list[list[str]]:
    """A table's lines, under `COLUMNS`."""
    return [[one.name, one.result.finding.statement, one.result.answer] for one in tested]


def facts(result: "Result") -> list[str]:
    """The facts that an answer rests on, a sentence each: the source, the numbers of every check, what is missing."""
    return [
        f"source: {result.finding.source}",
        *(words for check in result.checks for words in _answers(check)),
        *(f"needs {need}" for need in result.needs),
    ]


def _answers(check: "CheckResult") -> list[str]:
    """A check's answer and numbers; of one that compares many cells, those of each comparison."""
    one_each = [one for one in check.compared if one.interval is not None] if len(check.compared) > 1 else [check]
    return [f"{one.answer}: {one.numbers}" for one in one_each]


def _ends(ends: Ends) -> str:
    return f"{ends[0]:.4g} to {ends[1]:.4g}"


def chart(name: str, result: "Result") -> Chart | None:
    """A finding's picture: an axis for every check; None where there is nothing to compare yet."""
    axes = []
    for answer in result.checks:
        some = [one for one in answer.compared if one.interval is not None][:_MOST]
        if some:
            compared = [MarkedAxis(one.words, [_mark(one.interval)], one.claimed) for one in some]
            axes.append(Axis(some[0].figure, compared))
    return Chart(f"{name}: {result.answer}", axes) if axes else None


def _mark(interval: Ends | None) -> Mark:
    assert interval is not None
    low, high = interval
    middle = (low + high) / 2 if math.isfinite(low + high) else None
    return Mark("measured", _ends(interval), middle, interval)
