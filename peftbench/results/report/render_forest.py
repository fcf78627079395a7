"""The leaderboard's picture of scores with their intervals, as a file that Markdown can show."""

from peftbench.results.report.page import data, standalone
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard-forest.svg"


def render(board: Leaderboard) -> str:
    """The whole file."""
    return standalone.intervals(data.document(board))
