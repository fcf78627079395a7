"""How sure a leaderboard is, from records with and without predictions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.results.records import RunRecord
from peftbench.results.report import render_markdown, stats
from peftbench.results.report.load import Results
from peftbench.results.statistics import answers, intervals, pairs
from tests.helpers.boards import board, made
from tests.results.statistics.simulated import equal_methods

METHODS = ("full", "lora", "linear_probe")


def _study(
    root: Path, seeds: int = 3, *, keep: bool = True, dataset: str = "sst2"
) -> tuple[list[RunRecord], list[np.ndarray]]:
    """Records of three methods whose predictions lie in a folder, and their (S, N) scores; the last is far worse."""
    rng = np.random.default_rng(7)
    scores = equal_methods(rng, 3, seeds, 200, 0.1)
    scores[2] = np.minimum(scores[2], rng.random(200) < 0.6)
    records = []
    for method, rows in zip(METHODS, scores, strict=True):
        for seed, right in enumerate(rows):
            split = {"values": {"accuracy": float(right.mean())}, "score": float(right.mean()), "n": 200}
            overrides = (f"method={method}", f"dataset={dataset}", f"seed={seed}")
            record = made(float(right.mean()), *overrides, key="".join(overrides), metrics={"validation": split})
            records.append(record)
            file = answers.file(root, record)
            if keep and file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                columns = {"split": ["validation"] * 200, "row": range(200), "label": [1] * 200}
                pq.write_table(pa.table({**columns, "answer": right.astype(int)}), file)
    return records, scores


def _board(root: Path, records: list[RunRecord]) -> stats.Leaderboard:
    return stats.leaderboard(Results(records, roots={id(record): root for record in records}))


def _row(method: str) -> tuple[str, str, str]:
    return method, "tiny_bert", ""


def test_intervals_are_of_seeds_and_examples_where_there_are_predictions(tmp_path: Path) -> None:
    records, scores = _study(tmp_path)
    made_of = _board(tmp_path, records).evidence
    for method, x in zip(METHODS, scores, strict=True):
        sure = made_of.cells[_row(method), "sst2"]
        assert sure.interval == intervals.cell(x)
        assert sure.same_examples == intervals.by_seeds(x.mean(axis=1))
        assert sure.tied == (method != "linear_probe")
    (panel,) = made_of.panels
    assert len(panel.rows) == len(panel.better) == len(panel.pairs) == 3
    assert panel.basis == "seeds and examples"
    expected = [pairs.difference(a, b).p for a, b in ((scores[0], scores[2]), (scores[1], scores[2]))]
    assert max(expected) < 1e-4
    assert sum(pair.needed is None for pair in panel.pairs) == 2
    assert made_of.ways[_row("lora"), "sst2"] is not None


def test_without_predictions_they_are_of_seeds_and_it_says_so(tmp_path: Path) -> None:
    records, scores = _study(tmp_path, keep=False)
    result = _board(tmp_path, records)
    assert result.evidence.cells[_row("full"), "sst2"].interval == intervals.by_seeds(scores[0].mean(axis=1))
    assert "there are no scores by example" in " ".join(render_markdown.render(result).split())


def test_one_seed_is_of_the_examples(tmp_path: Path) -> None:
    records, scores = _study(tmp_path, seeds=1)
    result = _board(tmp_path, records)
    assert result.evidence.panels[0].basis == "examples of one seed"
    assert result.evidence.panels[0].pairs[0].difference.test.startswith("McNemar")
    without = board(*_study(tmp_path, seeds=1, keep=False)[0]).evidence
    interval = without.cells[_row("full"), "sst2"].interval
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(intervals.wilson(scores[0].sum(), 200))
    assert not without.panels
    assert without.cells[_row("full"), "sst2"].tied is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("recipe.selection=last", "selection"),
        ("tune=4", "trials of tuning"),
    ],
)
def test_what_was_made_under_other_conditions_is_never_compared(change: str, named: str) -> None:
    def runs(method: str, score: float, *more: str) -> list[RunRecord]:
        return [made(score + seed / 100, f"method={method}", f"seed={seed}", *more) for seed in range(3)]

    result = board(*runs("lora", 0.5), *runs("bitfit", 0.5), *runs("full", 0.9, change), *runs("ia3", 0.1, change))
    panels = {frozenset(row[0] for row in panel.rows) for panel in result.evidence.panels}
    assert panels == {frozenset({"lora", "bitfit"}), frozenset({"full", "ia3"})}
    assert result.evidence.notes == [f"demo, tiny_bert: rows that differ in {named} aren't compared"]
    assert f"differ in {named} aren't compared" in render_markdown.render(result)
    by_method = {row[0]: sure.tied for (row, _), sure in result.evidence.cells.items()}
    assert by_method == {"lora": True, "bitfit": True, "full": True, "ia3": False}


def test_what_has_nothing_to_tune_is_compared_with_what_was_tuned() -> None:
    """As every method with the same number of trials: the majority class must stand beside them, by its plain name."""
    tuned = [(method, 0.5 + seed / 100, "tune=4", seed) for method in ("lora", "full") for seed in range(3)]
    plain = [("majority", 0.4 + seed / 100, "tune=null", seed) for seed in range(3)]
    runs = [made(score, f"method={m}", tune, f"seed={seed}") for m, score, tune, seed in (*tuned, *plain)]
    result = board(*runs)
    assert {(row.method, row.variant) for row in result.rows} == {("lora", ""), ("full", ""), ("majority", "")}
    assert [len(panel.rows) for panel in result.evidence.panels] == [3]
    untuned = [made(0.5 + seed / 100, "method=bitfit", f"seed={seed}") for seed in range(3)]
    panels = {frozenset(row[0] for row in panel.rows) for panel in board(*runs, *untuned).evidence.panels}
    assert frozenset({"lora", "full"}) in panels, "with two budgets nobody knows which is its"


def test_other_data_are_other_columns_that_are_never_compared() -> None:
    other = {"data_fingerprint": "other", "model_fingerprint": "m"}
    runs = [made(0.5 + s / 100, f"seed={s}") for s in range(2)]
    runs += [made(0.9 + s / 100, "method=full", f"seed={s}", environment=other) for s in range(2)]
    assert not board(*runs).evidence.panels


def test_ranks_are_over_several_data_sets(tmp_path: Path) -> None:
    records = [*_study(tmp_path)[0], *_study(tmp_path, dataset="rte")[0]]
    (standing,) = _board(tmp_path, records).evidence.standings
    assert standing.columns == ["rte", "sst2"]
    assert [row[0] for row in standing.rows][2] == "linear_probe"
    assert (standing.low[2], standing.high[2]) == (3, 3)
    assert "ranks, 95 %" in render_markdown.render(_board(tmp_path, records))


def test_the_evidence_does_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    records, _ = _study(tmp_path)
    one, other = _board(tmp_path, records).evidence, _board(tmp_path, records[::-1]).evidence
    assert one.cells == other.cells
    assert np.array_equal(one.panels[0].better, other.panels[0].better)
    assert one.ways == other.ways


def test_a_metric_that_is_to_be_small_is_not_compared() -> None:
    runs = [made(0.5 + s / 9, f"method={m}", f"seed={s}") for m in ("lora", "full") for s in range(2)]
    for run in runs:
        run.config = {**run.config, "dataset": {**run.config["dataset"], "metrics": {"accuracy": "min"}}}
    result = board(*runs).evidence
    assert not result.panels
    assert result.notes == ["demo: its metric is to be small, and isn't compared"]
