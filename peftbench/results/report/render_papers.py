"""Published values and ours as an SVG file; "", which is no file, where no run here is of a published row."""

from peftbench.results.report.page import papers, standalone
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard-papers.svg"


def render(board: Leaderboard) -> str:
    """The whole file."""
    return standalone.pictures(papers.charts(board.published)) if board.published else ""
