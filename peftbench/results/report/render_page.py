"""The leaderboard as a page: one file that loads nothing."""

from peftbench.results.report.page import data
from peftbench.results.report.page import render as page
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard.html"


def render(board: Leaderboard) -> str:
    """The whole file; the same text for the same records."""
    return page.render(data.document(board))
