"""The leaderboard against a table worked out by hand."""

import csv
import io
import itertools
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.config import identity
from peftbench.results.records import RunRecord
from peftbench.results.report import command, dataframe, render_csv, render_markdown, stats
from peftbench.results.report.load import Results, load
from peftbench.results.store import ResultStore
from tests.helpers.boards import board, made
from tests.helpers.composed import composed

# Three methods on three data sets, two seeds each:
#            cola          rte           sst2          mean
#   full     .50 .60 =.55  .70 .70 =.70  .90 .94 =.92  (.55 + .70 + .92) / 3 = .7233
#   lora     .60 .60 =.60  .60 .70 =.65  .91 .91 =.91  .72
#   prompt   .10 .30 =.20  -             .80 .82 =.81  none, rte is missing
TABLE = {
    "full": {"cola": (0.5, 0.6), "rte": (0.7, 0.7), "sst2": (0.9, 0.94)},
    "lora": {"cola": (0.6, 0.6), "rte": (0.6, 0.7), "sst2": (0.91, 0.91)},
    "prompt": {"cola": (0.1, 0.3), "sst2": (0.8, 0.82)},
}
RECORDS = [
    made(score, f"method={method}", f"dataset={dataset}", f"seed={seed}")
    for method, row in TABLE.items()
    for dataset, pair in row.items()
    for seed, score in enumerate(pair)
]


def test_three_by_three() -> None:
    result = board(*RECORDS)
    assert result.columns == ["cola", "rte", "sst2"]
    assert [row.method for row in result.rows] == ["full", "lora", "prompt"]
    assert [row.mean for row in result.rows] == [pytest.approx(2.17 / 3), pytest.approx(0.72), None]
    full = result.rows[0].cells["cola"]
    # Sample standard deviation of .5 and .6: sqrt(2 * .05^2 / 1).
    assert (full.mean, full.std, full.n) == (pytest.approx(0.55), pytest.approx(0.0707107, abs=1e-6), 2)
    assert result.rows[0].cells["rte"].std == 0
    assert result.rows[2].cells["rte"] is None
    assert result.rows[0].figures["gap"] == pytest.approx(0.9 - 0.7)


def test_the_order_of_records_is_irrelevant() -> None:
    texts = set()
    for seed in range(5):
        shuffled = random.Random(seed).sample(RECORDS, len(RECORDS))
        texts.add((render_markdown.render(board(*shuffled)), render_csv.render(board(*shuffled))))
    assert len(texts) == 1


def test_markdown_shows_what_there_is_and_what_is_missing() -> None:
    failed = made(None, "method=prompt", "dataset=rte", status="oom", error="out of | memory", log="logs/x/run.log")
    text = render_markdown.render(board(*RECORDS, failed=(failed,)))
    sst2 = text.split("### sst2 (accuracy), tiny_bert")[1].split("###")[0]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in sst2.splitlines() if line[:1] == "|"] == [
        ["", "method", "score", "95 % interval", "sd", "n"],
        ["---", "------", "----:", "------------:", "--:", "--:"],
        ["=", "full", "92.0", "[66.6, 100.0]", "2.8", "2"],
        ["=", "lora", "91.0", "[91.0, 91.0]", "0.0", "2"],
        ["=", "prompt", "81.0", "[68.3, 93.7]", "1.4", "2"],
    ]
    words = " ".join(sst2.split())
    assert "other seeds on these very examples (there are no scores by example). Few seeds: 2." in words
    assert "prompt" not in text.split("### rte (accuracy), tiny_bert")[1].split("###")[0]
    assert "prompt" not in text.split("## Mean over data sets")[1].split("\n## ")[0]
    assert all(len(line) <= 80 for line in text.splitlines() if line[:1] == "|")
    assert "- prompt · tiny_bert · rte · seed 0: oom, out of | memory (log: `logs/x/run.log`)" in text


def test_a_wide_terminal_has_one_table() -> None:
    text = command.terminal(board(*RECORDS), 200)
    line = next(line for line in text.splitlines() if line.startswith("| full"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:6] == ["full", "tiny_bert", "55.0 [-8.5, 100.0] = (n=2)", "70.0 [70.0, 70.0] = (n=2)",
                         "92.0 [66.6, 100.0] = (n=2)", "72.3"]  # fmt: skip
    assert cells[6:] == ["10", "1.000", "5", "20.0"]
    assert max(map(len, command.terminal(board(*RECORDS), 80).splitlines())) <= 80


def test_csv_holds_the_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv.render(board(*RECORDS)))))
    assert float(rows[0]["cola_mean"]) == pytest.approx(0.55)
    assert (rows[0]["rte_low"], rows[0]["rte_basis"], rows[0]["rte_tied"]) == ("0.7", "seeds alone", "1")
    assert rows[2]["rte_mean"] == ""
    assert rows[2]["rte_n"] == "0"
    assert float(rows[0]["efficiency.peak_memory_bytes"]) == 5_000_000


def test_memory_is_the_largest_and_missing_figures_stay_missing() -> None:
    small, large = ({"peak_memory_bytes": n, "inference_latency_ms_merged": None} for n in (10, 30))
    result = board(made(0.5, "seed=0", efficiency=small), made(0.5, "seed=1", efficiency=large))
    assert result.rows[0].figures["efficiency.peak_memory_bytes"] == 30
    assert result.rows[0].figures["efficiency.inference_latency_ms_merged"] is None


def test_footnotes_and_machines_are_shown() -> None:
    other = {"data_fingerprint": "d", "model_fingerprint": "m", "cpu": "other", "threads": 9, "gpu": ["G"]}
    text = render_markdown.render(
        board(made(0.5, "seed=0", footnotes=["demo: a subset"]), made(0.5, "seed=1", environment=other))
    )
    assert "- demo: a subset" in text
    assert "different machines: c, 1 threads, no GPU; other, 9 threads, G" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


def test_a_mended_failure_is_no_failure(results: Path) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert"])
    for status, key in (("error", "a"), ("completed", "a"), ("error", "b"), ("oom", "b")):
        store.put(config, RunRecord(key=key, status=status, score=0.5, config=identity.description(config)))
    found = load(results)
    assert [r.key for r in found.completed] == ["a"]
    assert [(r.key, r.status) for r in found.failed] == [("b", "oom")]


def test_a_corrupt_record_is_named_and_stays(results: Path, run_cli) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert"])
    good = store.put(config, RunRecord(key="a", status="completed", score=0.5, config=identity.description(config)))
    good.with_name("half.json").write_text('{"key": "x", "sta')
    status, out, _ = run_cli("report", f"results_dir={results}")
    assert status == 0
    assert "half.json: no record (not whole JSON" in out
    assert "|  50.0 |" in out
    assert "half.json" in (results / "leaderboard.md").read_text()
    assert sorted(file.name for file in good.parent.iterdir()) == ["a.json", "half.json"]


def test_a_record_of_a_newer_version_is_left_alone(results: Path, run_cli) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert"])
    file = store.put(config, RunRecord(key="a", status="completed", score=0.5, config=identity.description(config)))
    file.write_text(file.read_text().replace('"schema_version": 1', '"schema_version": 2'))
    assert "schema_version 2, this peftbench reads 1" in run_cli("report", f"results_dir={results}")[1]
    assert file.exists()


def test_report_imports_no_torch_and_takes_little_time(results: Path) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert"])
    for record, number in zip(itertools.cycle(RECORDS), range(1000), strict=False):
        described = {**record.config, "seed": number}  # Runs that are the same are counted once.
        store.put(config, RunRecord(**{**record.to_dict(), "key": str(number), "config": described}))
    code = (
        "import sys; from peftbench.cli import main; "
        f"main(['report', 'results_dir={results}']); sys.exit('torch' in sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Loose, and of its own processor time: what it takes is measured by benchmarks/; this notices a heavy import.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 10
    assert "1000 completed" in done.stdout


def test_records_as_a_frame(results: Path) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert"])
    for key, status in (("a", "completed"), ("b", "oom")):
        store.put(config, RunRecord(key=key, status=status, score=0.5, config=identity.description(config)))
    table = dataframe.frame(results)
    assert table["status"].tolist() == ["completed", "oom"]
    assert table["config.method.lr"].tolist() == [1e-3, 1e-3]


def test_nothing_yet(results: Path, run_cli) -> None:
    assert run_cli("report", f"results_dir={results}")[0] == 2
    results.mkdir()
    status, out, _ = run_cli("report", f"results_dir={results}")
    assert status == 0
    assert "No completed runs yet." in out


def test_a_record_with_hidden_labels_is_a_footnote(results: Path) -> None:
    store, config = ResultStore(results), composed(["model=tiny_bert", "dataset=ax"])
    metrics = {"test": {"values": {"matthews": None}, "score": None, "n": 9}}
    note = "ax: the labels of test are hidden"
    described = identity.description(config)
    store.put(config, RunRecord(key="a", status="completed", config=described, metrics=metrics, footnotes=[note]))
    store.put(config, RunRecord(key="b", status="completed", config=described))
    found = load(results)
    assert [record.key for record in found.completed] == ["a"]
    assert [reason for _, reason in found.unreadable] == ["completed without a score"]
    assert f"- {note}" in render_markdown.render(stats.leaderboard(found))


def test_a_report_says_what_its_runs_were_made_on() -> None:
    def run_on(seed: int, **more) -> RunRecord:
        known = {"cpu": "A CPU", "cpu_count": 2, "threads": 1, "gpu": [], "packages": {"torch": "2.13.0"}}
        known |= {"git_commit": "abcdef0123456789", "git_dirty": False, "started_unix_s": 86400 * seed, **more}
        return made(0.5, f"seed={seed}", environment=known)

    other = run_on(3, cpu="B CPU", gpu=["A GPU"], git_dirty=True, jobs_beside=2)
    assert stats.leaderboard(Results([other, run_on(1), run_on(2)], [])).machines == [
        "2 runs of commit abcdef01 on A CPU, 2 cores, hardware=cpu, 1 thread a run; torch 2.13.0; "
        "1970-01-02 to 1970-01-03",
        "1 run of commit abcdef01, 1 of them from a checkout with uncommitted changes on B CPU, 2 cores, A GPU, "
        "hardware=cpu, 1 thread a run; torch 2.13.0; 1970-01-04; up to 2 other runs beside one, which costs speed",
    ]
    text = render_markdown.render(stats.leaderboard(Results([other], [])))
    assert "## Made on\n\n- 1 run of commit abcdef01, 1 of them" in text
    assert stats.leaderboard(Results([made(0.5)], [])).machines == [
        "1 run on c, ? cores, hardware=cpu, 1 thread a run; versions unknown; at an unknown time"
    ]


def test_what_was_forgotten_is_shown_with_its_error() -> None:
    """Two seeds: .30 to .20 and .30 to .26, each with an error of .02; the mean difference is -.07."""
    asked = {"n": 50, "cut": 1, "parts": {"anatomy": {}}, "data_fingerprint": "q", "before": 0.3, "difference_se": 0.02}
    runs = [
        made(0.5, f"seed={seed}", forgetting={"mmlu": {**asked, "after": after, "difference": after - 0.3}})
        for seed, after in enumerate((0.2, 0.26))
    ]
    other = {"mmlu": {**asked, "parts": {"virology": {}}, "after": 0.3, "difference": 0.0}}
    text = render_markdown.render(board(*runs, made(0.6, "method=full", forgetting=other), made(0.4, "method=prompt")))
    table = text.split("## What tuning made the model forget")[1].split("\n## ")[0]
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    header, _, full, lora, _, _, *rest = lines  # The figures that don't fit stand in a second table below.
    assert header[:3] == ["method", "data set", "benchmark"]
    assert len(lines) == 8
    # Other questions of one name: which, is said as a hash.
    assert full[2] != lora[2]
    assert [
        [*row[:2], row[2].partition(" ")[0], *row[3:], *more[3:]] for row, more in zip((full, lora), rest, strict=True)
    ] == [
        ["full", "demo", "mmlu", "50 (1 cut)", "1", "30.0", "30.0", "+0.0 ± 2.0"],
        ["lora", "demo", "mmlu", "50 (1 cut)", "2", "30.0", "23.0", "-7.0 ± 2.0"],
    ]
    found = list(csv.DictReader(io.StringIO(render_csv.render(board(*runs, made(0.4, "method=prompt"))))))
    differences = {row["method"]: row["demo_mmlu_difference"] for row in found}
    assert float(differences["lora"]) == pytest.approx(-0.07)
    assert differences["prompt"] == ""
    assert "forget" not in render_markdown.render(board(made(0.4, "method=prompt")))
