"""Memory by part, measured and estimated, as an SVG file; "", which is no file, where no run here has it measured."""

from peftbench.results.report.page import sections, standalone
from peftbench.results.report.stats import Leaderboard

FILE = "leaderboard-memory.svg"


def render(board: Leaderboard) -> str:
    """The whole file."""
    return standalone.pictures(sections.memory(board).pictures) if board.memory else ""
