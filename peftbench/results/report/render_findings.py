"""What was said and what was measured as an SVG file; "", which is no file, where nothing is compared here."""

from peftbench.results.report.page import sayings, standalone
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard-findings.svg"


def render(board: Leaderboard) -> str:
    """The whole file."""
    charts = [sayings.chart(one.name, one.result) for one in board.findings]
    return standalone.pictures([chart for chart in charts if chart is not None])
