"""The answer in words: of every data set and model which method is best, what can't be told from it, what is cheap."""

from collections.abc import Sequence
from dataclasses import dataclass

from peftbench.results.report.page import svg
from peftbench.results.report.page.costs import COSTS, value
from peftbench.results.report.page.document import Cell, Column, Document, MeanWithInterval, PagePanel, PageRow

_MEMORY = next(cost for cost in COSTS if cost.id == "memory")
_SHARE = next(cost for cost in COSTS if cost.id == "share")
#: Methods that are named in a sentence; the rest are counted.
_NAMED = 4
#: Answers that a page shows unfolded.
FIRST = 4


@dataclass(frozen=True)
class Answer:
    """Words on what is best on a data set. `rows` are the ids of those that it speaks of, `column` the data set's."""

    text: str
    column: str
    rows: Sequence[str]


def answers(document: Document) -> list[Answer]:
    """A sentence or two for every panel; where some are folded away, those that say the most first."""
    several, panels = len(document.models) > 1, list(document.panels)
    if len(panels) > FIRST:
        panels.sort(key=_told, reverse=True)
    return [
        Answer(_answer(panel, with_model=several), panel.column.id, [row.id for row in panel.rows]) for panel in panels
    ]


def _told(panel: PagePanel) -> tuple[bool, int, int]:
    """Says whether methods were compared, by how many seeds at least, and how many there are."""
    seeds = [len(row.cells[panel.column.id].runs) for row in panel.rows]
    return len(seeds) > 1 and panel.rows[0].cells[panel.column.id].tied is not None, min(seeds), len(seeds)


def _answer(panel: PagePanel, *, with_model: bool) -> str:
    column, rows = panel.column, panel.rows
    cells = [row.cells[column.id] for row in rows]
    begin = f"{short(column.name)}{f' with {short(panel.model)}' if with_model else ''}"
    begin += f" ({short(panel.conditions)})" if panel.conditions else ""
    begin += f", {_seeds(cells)}: "
    best, rest = rows[0], rows[1:]
    begin += f"{short(best.name)} {percent(cells[0].score)}"
    if not rest:
        return f"{begin}, the only method."
    if cells[0].tied is None:
        return f"{begin} has the highest mean of {len(rows)} methods; whether it is better wasn't tested."
    equal = [row for row in rest if row.cells[column.id].tied]
    if not equal:
        return f"{begin} is best of {len(rows)} methods, and every other is worse by more than noise."
    begin += f" is best; {_list(equal)} can't be told from it."
    return begin + (_untrained(column, equal) or _cheapest(column, best, equal))


def _figure(percent: float) -> str:
    """A percentage with two digits that count: never 1e+02."""
    return f"{percent:.2g}" if percent < 10 else f"{percent:.0f}"


def short(name: str) -> str:
    """A name of a length that a sentence can hold."""
    return svg.short(name, 60)


def _seeds(cells: Sequence[Cell]) -> str:
    counts = sorted({len(cell.runs) for cell in cells})
    written = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    few = " (few)" if any(cell.few_seeds for cell in cells) else ""
    return f"{written} seed{'s' if counts != [1] else ''}{few}"


def percent(score: MeanWithInterval) -> str:
    """A score in percent, with its interval."""
    ends = score.interval
    return f"{100 * score.mean:.1f}" + ("" if ends is None else f" [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]")


def _list(rows: Sequence[PageRow]) -> str:
    named = rows if len(rows) == _NAMED + 1 else rows[:_NAMED]
    names = [short(row.name) for row in named]
    if len(rows) > len(named):
        names.append(f"{len(rows) - len(named)} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _untrained(column: Column, equal: Sequence[PageRow]) -> str:
    """The sentence that a reader must know before all else, where there are rows that train nothing among the best
    one's equals."""
    idle = [row for row in equal if row.cells[column.id].figures.get("params.trainable") == 0]
    if not idle:
        return ""
    verb = "trains nothing, is" if len(idle) == 1 else "train nothing, are"
    return f" Even {_list(idle)}, which {verb} among them: these data show no gain by training."


def _cheapest(column: Column, best: PageRow, equal: Sequence[PageRow]) -> str:
    """A sentence on the one of the best and its equals that trains the fewest parameters, and on its memory beside full
    fine-tuning's, or else the best row's."""
    shares = [(share, row) for row in (best, *equal) if (share := value(_SHARE, row.cells[column.id].figures))]
    if not shares:
        return ""
    share, cheap = min(shares, key=lambda pair: pair[0])
    words = f" Of these {short(cheap.name)} trains the least, {_figure(share)} % of the parameters"
    own, other = (value(_MEMORY, row.cells[column.id].figures) for row in (cheap, best))
    if cheap is not best and own and other:
        words += f", with {own / other:.2f} times the peak memory of {short(best.name)}"
    return f"{words}."
