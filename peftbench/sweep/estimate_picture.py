"""Estimates as a picture: a bar a run, by part, as SVG."""

from collections.abc import Sequence
from pathlib import Path

from peftbench.results.report.page import standalone
from peftbench.results.report.page.document import Bars
from peftbench.sweep.estimation import RunEstimate
from peftbench.system import files


def write(file: Path, estimates: Sequence[RunEstimate]) -> None:
    """Write the picture of all runs that could be estimated."""
    files.make_folder(file.parent)
    files.write(file, lambda temporary: temporary.write_text(svg(estimates), encoding="utf-8"))


def svg(estimates: Sequence[RunEstimate]) -> str:
    """The picture: MB at the peak by part."""
    bars = [
        (f"{one.config.method.name} · {one.config.model.name}", one.cell["parts"])
        for one in estimates
        if not one.refused
    ]
    return standalone.pictures([Bars("Memory at the peak by part, MB", bars)])
