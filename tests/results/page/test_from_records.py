"""From records, predictions and curves on disk to the page, by the command."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from peftbench.results.records import RunRecord
from peftbench.results.report import load, stats
from peftbench.results.report.load import Results
from peftbench.results.report.page import data
from peftbench.results.report.page.document import Document
from peftbench.results.statistics import answers, intervals
from tests.helpers import studies
from tests.results.page.conftest import Opened

METHODS = ("full", "lora", "bitfit", "linear_probe")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    studies.left(folder, [studies.record(m, d, seed=s) for m in METHODS for d in ("sst2", "rte") for s in range(5)])
    return folder


@pytest.fixture(scope="module")
def made(folder: Path) -> Document:
    return data.document(stats.leaderboard(load.load(folder)))


def test_intervals_are_of_seeds_and_examples(folder: Path, made: Document) -> None:
    board = stats.leaderboard(load.load(folder))
    for (name, column), runs in board.runs.items():
        scored = [answers.pseudo_values(record, answers.file(folder, record) or Path()) for record in runs]
        matrix = np.stack([one.values for one in scored if one is not None])
        assert matrix.shape == (5, studies.DATA[column][2])
        expected = intervals.cell(matrix)
        row = next(row for row in made.rows if row.method == name[0])
        cell = row.cells[next(one.id for one in made.columns if one.name == column)]
        assert cell.score.interval == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert cell.basis == f"5 seeds and {studies.DATA[column][2]} examples"
        assert cell.same_examples is not None
        assert not cell.few_seeds


def test_ties_matrices_ranks_and_ways(made: Document) -> None:
    assert [panel.name for panel in made.panels] == ["rte · minilm", "sst2 · minilm"]
    sst2 = made.panels[1]
    tied = {row.method for row in sst2.rows if row.cells[sst2.column.id].tied}
    assert "linear_probe" not in tied
    assert sst2.rows[0].method in tied
    matrix = next(one for one in made.matrices if one.name == sst2.name)
    assert [row.id for row in matrix.rows] == [row.id for row in sst2.rows]
    for i in range(4):
        for j in range(4):
            assert matrix.values[i][j] + matrix.values[j][i] == pytest.approx(1)
    assert matrix.values[0][3] > 0.99
    over, *single = made.matrices
    assert (over.name, len(single)) == ("over all data sets · minilm", 2)
    a, b = over.rows[0].id, over.rows[-1].id
    ids = [[row.id for row in one.rows] for one in single]
    parts = [one.values[some.index(a)][some.index(b)] for one, some in zip(single, ids, strict=True)]
    assert over.values[0][-1] == pytest.approx(sum(parts) / 2, abs=0.01)
    (standing,) = made.standings
    assert [line[0] for line in standing.lines][-1] == "linear_probe"
    assert standing.lines[-1][1] == "4"
    bitfit = next(row for row in sst2.rows if row.method == "bitfit").cells[sst2.column.id]
    notes = dict(bitfit.notes)
    assert "of the way from linear probe to full" in notes
    assert notes["difference from the best"].startswith("-")


def test_the_command_writes_page_and_pictures(
    folder: Path, run_cli: Callable[..., tuple[int, str, str]], opened: Callable[..., Opened]
) -> None:
    code, out, _ = run_cli("report", f"results_dir={folder}")
    assert code == 0
    for name in ("leaderboard.html", "leaderboard-forest.svg", "leaderboard-pareto.svg"):
        assert name in out
        assert (folder / name).stat().st_size > 1000
    markdown = (folder / "leaderboard.md").read_text(encoding="utf-8")
    for name in re.findall(r"\]\((leaderboard[^)]*)\)", markdown):
        assert (folder / name).is_file()
    assert "](leaderboard-forest.svg)" in markdown
    one = opened(folder / "leaderboard.html")
    assert one.page.locator(".answers li").count() == 2
    one.page.locator("[data-open]").first.click()
    text = one.page.get_by_role("dialog").inner_text()
    assert "5 seeds and 277 examples" in text
    assert "on these very examples" in text
    assert one.page.get_by_role("dialog").locator("svg.curve").count() == 1


def busy(record: RunRecord, fraction: float) -> RunRecord:
    efficiency = {**(record.efficiency or {}), "train_cores_fraction": fraction}
    return replace(record, efficiency=efficiency)


def test_quiet_runs_are_taken_and_busy_ones_are_said() -> None:
    lora = [studies.record("lora", "sst2", seed=seed) for seed in range(3)]
    slow = replace(lora[0], efficiency={**(lora[0].efficiency or {}), "train_time_s": 500.0})
    made = data.document(stats.leaderboard(Results([busy(slow, 0.3), busy(lora[1], 1.0), busy(lora[2], 1.0)])))
    (row,) = made.rows
    assert row.busy == {}
    time = row.figures["efficiency.train_time_s"]
    assert time is not None
    assert time < 40
    made = data.document(stats.leaderboard(Results([busy(record, 0.35) for record in lora])))
    (row,) = made.rows
    assert "35 % of its cores" in row.busy["efficiency.train_time_s"]
    assert "efficiency.inference_latency_ms" not in row.busy
    assert [line[2][-1] for line in made.costs[1].lines] == ["*"]


def test_warnings_stand_in_their_cell() -> None:
    record = studies.record("lora", "sst2", selected_step=60)
    record.selection = {"score": 0.8, "last_score": 0.8, "last_step": 60, "evaluations": 3}
    made = data.document(stats.leaderboard(Results([record, studies.record("full", "sst2")])))
    by_method = {row.method: next(iter(row.cells.values())) for row in made.rows}
    (text,) = by_method["lora"].warnings
    assert "may still have been improving" in text
    assert by_method["full"].warnings == []
