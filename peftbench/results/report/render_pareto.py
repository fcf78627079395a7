"""The leaderboard's picture of scores against trained parameters, as a file that Markdown can show."""

from peftbench.results.report.page import data, standalone
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard-pareto.svg"


def render(board: Leaderboard) -> str:
    """The whole file."""
    return standalone.costs(data.document(board))
