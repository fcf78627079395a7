"""The table of what was evaluated beyond the score."""

from typing import Any

from peftbench.results.report import render_markdown
from tests.helpers.boards import board, made


def beyond(ece: float, drop: float, *, low: float | None = None, worst: float = 0.5) -> dict[str, Any]:
    high = None if low is None else 2 * drop - low
    return {
        "calibration": {"n": 9, "ece": ece, "brier": 0.25, "selective_accuracy_50": 1.0, "ece_scaled": None},
        "robustness": {"typos": {"n": 9, "changed": 5, "score": 0.5, "drop": drop, "drop_low": low, "drop_high": high}},
        "slices": {"re|gion": {"groups": {"a": {"n": 4, "score": worst}, "b": {"n": 5, "score": 0.9}}, "worst": "a"}},
    }


def test_figures_are_means_over_a_cells_runs() -> None:
    runs = [
        made(0.5, "evaluation=helm", f"seed={seed}", evaluation=beyond(ece, drop, low=drop - 0.05, worst=worst))
        for seed, ece, drop, worst in ((0, 0.1, 0.02, 0.5), (1, 0.3, 0.04, 0.7))
    ]
    other = made(0.5, "method=full", "evaluation=helm", evaluation=beyond(0.2, 0.5))
    text = render_markdown.render(board(*runs, other))
    cells = _cells(text.partition("## Beyond the score")[2].partition("\n## ")[0])
    assert cells["lora"] == {
        "runs": "2",
        "ECE": "20.0",
        "Brier": "0.250",
        "accuracy, surest half": "100.0",
        "drop by typos": "3.0 [-2.0, 8.0]",
        "worst re/gion": "60.0",
    }
    assert cells["full"] == {**cells["lora"], "runs": "1", "drop by typos": "50.0", "worst re/gion": "50.0"}


def _cells(text: str) -> dict[str, dict[str, str]]:
    """By method and heading the cells of tables that are as wide together as one would be."""
    cells: dict[str, dict[str, str]] = {}
    heads: list[str] = []
    for line in text.splitlines():
        values = [cell.strip() for cell in line.replace(r"\|", "/").strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = values
        elif set(values[0]) != {"-"}:
            row = dict(zip(heads, values, strict=True))
            cells.setdefault(row.pop("method"), {}).update(row)
    for row in cells.values():
        row.pop("model", None)
        row.pop("data set", None)
    return cells


def test_without_any_there_is_no_table() -> None:
    assert "Beyond the score" not in render_markdown.render(board(made(0.5)))
