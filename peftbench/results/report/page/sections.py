"""The page's parts beside the scores: papers against ours, findings, what is beyond the score, memory by part."""

from collections.abc import Iterator

from peftbench.results.report import estimated, evaluation
from peftbench.results.report.page import papers, sayings
from peftbench.results.report.page.document import Bars, Section, Table
from peftbench.results.report.stats import Leaderboard

#: Cells of the picture of memory, at most.
_MOST = 20


def of(board: Leaderboard) -> Iterator[Section]:
    """Those that the leaderboard has something for, in the page's order."""
    if board.published:
        yield papers.section(board.published)
    if board.findings:
        yield sayings.section(board.findings)
    if board.evaluation:
        header, lines = evaluation.table(board.evaluation)
        caption = "Calibration, robustness and slices"
        yield Section("beyond", "Beyond the score", evaluation.NOTE, [Table(caption, header, lines, left=3)])
    if board.memory:
        yield memory(board)


def memory(board: Leaderboard) -> Section:
    """Memory by part: the table, and bars of the cells that need the most, measured and estimated."""
    note = estimated.NOTE
    if all(one.estimated is None for one in board.memory):
        note += "Nothing is estimated yet: python -m peftbench estimate records=<this folder> does."
    header, lines = estimated.table(board.memory)
    largest = sorted(board.memory, key=lambda one: -sum(one.measured.values()))[:_MOST]
    bars = []
    for one in largest:
        runs = board.runs.get((one.row, one.column), [])
        study = next((board.studies[id(record)] for record in runs if id(record) in board.studies), "")
        name = " · ".join(filter(None, (study, one.row[0], one.row[1], one.column)))
        bars.append((f"{name}, measured", one.measured))
        if one.estimated is not None:
            bars.append((f"{name}, estimated", one.estimated))
    picture = Bars("Memory at the peak, MB", bars)
    return Section("memory", estimated.HEADING, note, [Table("At the peak, in MB", header, lines, left=3)], [picture])
