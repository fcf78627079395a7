"""The README's table has the figures of the published leaderboard."""

import csv
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_readmes_table_is_the_published_one() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    with (ROOT / "results/published/leaderboard/leaderboard.csv").open(encoding="utf-8", newline="") as file:
        published = {line["method"]: line for line in csv.DictReader(file)}
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if re.match(r"\| \w+ \| .*\[", line)]
    assert len(lines) > 5
    for method, *scores, share, memory, step in lines:
        row = published[method]
        for name, score in zip(("sst2", "cola"), scores, strict=True):
            mean, low, high = (f"{100 * float(row[f'{name}_{which}']):.1f}" for which in ("mean", "low", "high"))
            assert score.replace("**", "") == f"{mean} [{low}, {high}]"
            assert ("**" in score) == (row[f"{name}_tied"] == "1")
        trained = 100 * float(row["params.trainable"]) / float(row["params.total"])
        assert abs(float(share) / trained - 1) < 0.05  # Two digits.
        assert memory == f"{float(row['efficiency.peak_memory_bytes']) / 1e6:,.0f}"
        assert abs(float(step) - float(row["efficiency.train_step_base_forwards"])) <= 0.06
