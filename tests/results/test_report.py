"""The leaderboard against a table worked out by hand."""

import csv
import dataclasses
import io
import itertools
import random
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.config import identity, paths
from peftbench.results.records import RunRecord
from peftbench.results.report import command, frame, render_csv, render_markdown, stats, suites
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
        ["", "prompt", "81.0", "[68.3, 93.7]", "1.4", "2"],
    ]
    assert "other seeds on these very examples (there are no predictions). Few seeds: 2." in " ".join(sst2.split())
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


def test_unlike_runs_are_never_averaged() -> None:
    result = board(
        made(0.5, "method.lr=0.1"),
        made(0.7, "method.lr=0.2"),
        made(0.9, "method.lr=0.2", "recipe.epochs=9"),
        made(0.1, "method=full"),
    )
    assert [(row.method, row.variant) for row in result.rows] == [
        ("lora", "lr=0.2, recipe.epochs=9"),
        ("lora", "lr=0.2, recipe.epochs=3"),
        ("lora", "lr=0.1, recipe.epochs=3"),
        ("full", "recipe.epochs=3"),
    ]
    assert all(cell.n == 1 for row in result.rows for cell in row.cells.values())


def test_what_only_describes_a_run_makes_no_row_or_column() -> None:
    before = made(0.5, "method=galore", "seed=0")
    after = made(0.7, "method=galore", "seed=1")
    assert after.config["method"]["sharding"] is False
    words = {"method": ("sharding", "summary", "search"), "model": ("gguf",), "dataset": ("title", "rows")}
    older = {group: {k: v for k, v in before.config[group].items() if k not in names} for group, names in words.items()}
    result = board(dataclasses.replace(before, config={**before.config, **older}), after)
    assert [(row.variant, [cell.n for cell in row.cells.values()]) for row in result.rows] == [("", [2])]


def test_other_data_under_the_same_name_is_another_column() -> None:
    other = {"data_fingerprint": "other", "model_fingerprint": "m"}
    result = board(made(0.5, "seed=0"), made(0.7, "seed=1", environment=other))
    assert result.columns == ["demo (data=d)", "demo (data=other)"]
    assert [(cell.mean, cell.n) for cell in result.rows[0].cells.values()] == [(0.5, 1), (0.7, 1)]


def test_data_whose_fingerprints_begin_alike_are_other_data() -> None:
    runs = [
        made(0.25, "seed=0", environment={"data_fingerprint": "official"}),
        made(0.75, "seed=1", environment={"data_fingerprint": "official-too"}),
    ]
    assert [[(c.mean, c.n) for c in row.cells.values()] for row in board(*runs).rows] == [[(0.25, 1), (0.75, 1)]]


def test_machines_of_one_name_that_differ_are_two_rows_beside_a_third() -> None:
    result = board(
        made(0.25, "seed=0", "hardware.threads=1"),
        made(0.75, "seed=1", "hardware.threads=2"),
        made(0.5, "hardware=cpu_bf16"),
    )
    assert sorted(row.variant for row in result.rows) == [
        "hardware=cpu, hardware.threads=1",
        "hardware=cpu, hardware.threads=2",
        "hardware=cpu_bf16",
    ]


def test_names_that_are_written_alike_are_told_apart() -> None:
    """By a stranger's record: `demo (data=d)` is what other data called demo are shown as."""
    one, other, named = made(0.25, "seed=0"), made(0.5, "seed=1"), made(0.75, "seed=2")
    other = dataclasses.replace(other, environment={**other.environment, "data_fingerprint": "e"})
    dataset = {**named.config["dataset"], "name": "demo (data=d)"}
    named = dataclasses.replace(named, config={**named.config, "dataset": dataset})
    assert board(one, other, named).columns == ["demo (data=d)", "demo (data=d)[2]", "demo (data=e)"]


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
    assert "different machines: c, 1 threads, no GPU; other, 9 threads, G" in text


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


def test_other_protocols_are_never_averaged() -> None:
    result = board(made(0.5, "seed=0"), made(0.7, "seed=1", protocol=0))
    assert sorted(row.variant for row in result.rows) == ["protocol=0", "protocol=1"]


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
    table = frame(results)
    assert table["status"].tolist() == ["completed", "oom"]
    assert table["config.method.lr"].tolist() == [1e-3, 1e-3]


def test_nothing_yet(results: Path, run_cli) -> None:
    assert run_cli("report", f"results_dir={results}")[0] == 2
    results.mkdir()
    status, out, _ = run_cli("report", f"results_dir={results}")
    assert status == 0
    assert "No completed runs yet." in out


#              cola  mnli m / mm   mrpc a / f1   rte   superglue_rte   GLUE of these four
#   full       .50   .80 / .60     .70 / .90     .60   -               (.50 + .70 + .80 + .60) / 4 = .65
#   lora       .40   .80 / -       .70 / .90     -     .55             none: mnli's second split and rte are missing
def _suite_records() -> list[RunRecord]:
    def one(method: str, dataset: str, splits: dict[str, dict[str, float]]) -> RunRecord:
        metrics = {
            split: {"values": values, "score": sum(values.values()) / len(values)} if values else None
            for split, values in splits.items()
        }
        score = next(iter(metrics.values()))["score"]  # type: ignore[index]
        return made(score, f"method={method}", f"dataset={dataset}", metrics=metrics)

    def mnli(method: str, mismatched: dict[str, float]) -> RunRecord:
        both = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": mismatched}
        return one(method, "mnli", both)

    return [
        one("full", "cola", {"validation": {"matthews": 0.5}}),
        mnli("full", {"accuracy": 0.6}),
        one("full", "mrpc", {"validation": {"accuracy": 0.7, "f1": 0.9}}),
        one("full", "rte", {"validation": {"accuracy": 0.6}}),
        one("lora", "cola", {"validation": {"matthews": 0.4}}),
        mnli("lora", {}),
        one("lora", "mrpc", {"validation": {"accuracy": 0.7, "f1": 0.9}}),
        one("lora", "superglue_rte", {"validation": {"accuracy": 0.55}}),
    ]


@pytest.fixture
def four_tasks(monkeypatch: pytest.MonkeyPatch) -> stats.Leaderboard:
    """GLUE as if it had four tasks."""
    members = {"glue": ["cola", "mnli", "mrpc", "rte"], "super_glue": ["superglue_rte"]}
    monkeypatch.setattr(suites, "members", lambda: members)
    return board(*_suite_records())


def test_a_suite_averages_metrics_and_splits_first(four_tasks: stats.Leaderboard) -> None:
    assert list(four_tasks.suites) == ["glue"]  # Of the other there is one data set alone.
    by_method = {row[0]: suite for row, suite in four_tasks.suites["glue"].items()}
    assert by_method["full"] == suites.Suite(pytest.approx(0.65), [])
    assert by_method["lora"] == suites.Suite(None, ["mnli (validation_mismatched)", "rte"])
    text = render_markdown.render(four_tasks)
    assert "65.0" in text
    assert "- glue, missing: mnli (validation_mismatched), rte (1 row)" in text


def _of_other_data(kind: str) -> list[RunRecord]:
    """`full` on other data that are called rte: with another fingerprint, other columns, or one's own file."""
    score = {"validation": {"values": {"accuracy": 0.0}, "score": 0.0}}
    record = made(0.0, "method=full", "dataset=rte", metrics=score, key="other")
    if kind == "fingerprint":
        return [dataclasses.replace(record, environment={**record.environment, "data_fingerprint": "other"})]
    changed = {
        "columns": {"text": ["sentence1"]},
        "path": {"path": "mine/rte"},
        "metric": {"metrics": {"f1": "max"}},
        "own file": {"format": "csv", "suite": None},
    }[kind]
    dataset = {**record.config["dataset"], **changed}
    return [dataclasses.replace(record, config={**record.config, "dataset": dataset})]


@pytest.mark.parametrize("kind", ["fingerprint", "columns", "path", "metric", "own file"])
def test_a_suite_averages_no_other_data_of_a_name(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(suites, "members", lambda: {"glue": ["cola", "mnli", "mrpc", "rte"]})
    result = board(*_suite_records(), *_of_other_data(kind))
    full = result.suites["glue"]["full", "tiny_bert", ""]
    text = render_markdown.render(result)
    if kind == "fingerprint":  # Nothing says which are GLUE's.
        assert full.mean is None
        assert "rte (2 different data: rte (" in text
    else:
        assert full == suites.Suite(pytest.approx(0.65), [])
        assert "rte: 1 run on other data of that name, which the average of glue leaves out" in text
        alone = board(*[r for r in _suite_records() if r.config["dataset"]["name"] != "rte"], *_of_other_data(kind))
        assert alone.suites["glue"]["full", "tiny_bert", ""] == suites.Suite(None, ["rte"])
    assert {cell.n for row in result.rows for cell in row.cells.values() if cell} == {1}


def test_a_suites_data_sets_are_its_own_as_they_are_composed() -> None:
    for suite, names in suites.members().items():
        for name in names:
            record = made(0.5, "method=full", f"dataset={name}")
            assert suites._suites(record) == [suite], name


def test_one_key_for_two_runs_mixes_nothing() -> None:
    """Of anything that is grouped: rows, columns, details, what was forgotten, prompts."""
    prompt = {"soft_prompt": [[{"token": "a", "similarity": 0.5}]]}
    asked = {"n": 5, "cut": 0, "parts": {}, "data_fingerprint": "q", "before": 0.5, "difference_se": None}
    records = [
        made(score, *overrides, key="k", learnt=prompt,
             forgetting={"mmlu": {**asked, "after": score, "difference": score - 0.5}})
        for score, overrides in ((0.25, ("method=prompt",)), (0.75, ("method=full", "dataset=sst2")))
    ]  # fmt: skip
    result = board(*records)
    assert [(row.method, [(c.mean, c.n) for c in row.cells.values() if c]) for row in result.rows] == [
        ("full", [(0.75, 1)]),
        ("prompt", [(0.25, 1)]),
    ]
    assert {(of.row[0], of.after, of.runs) for of in result.forgetting} == {("full", 0.75, 1), ("prompt", 0.25, 1)}
    assert [title for title, _ in result.soft_prompts] == ["full · tiny_bert · sst2", "prompt · tiny_bert · demo"]


def test_other_questions_have_columns_of_their_own() -> None:
    asked = {"n": 5, "cut": 0, "parts": {}, "before": 0.5, "difference_se": None}
    runs = [
        made(
            0.5,
            f"seed={seed}",
            forgetting={"mmlu": {**asked, "data_fingerprint": str(seed), "after": after, "difference": after}},
        )
        for seed, after in enumerate((0.25, 0.75))
    ]
    (row,) = csv.DictReader(io.StringIO(render_csv.render(board(*runs))))
    assert sorted(float(v) for name, v in row.items() if name.endswith("_after")) == [0.25, 0.75]


def test_every_metric_and_split_is_shown(four_tasks: stats.Leaderboard) -> None:
    assert list(four_tasks.details) == [
        "mnli validation_matched accuracy", "mnli validation_mismatched accuracy", "mrpc accuracy", "mrpc f1",
    ]  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(render_csv.render(four_tasks))))
    full, lora = sorted(rows, key=lambda row: row["method"])
    assert (full["mrpc_f1"], full["mnli_validation_mismatched_accuracy"], full["glue"]) == ("0.9", "0.6", "0.65")
    assert (lora["mnli_validation_mismatched_accuracy"], lora["glue"]) == ("", "")
    assert "mrpc f1" in render_markdown.render(four_tasks)


def test_the_members_of_a_suite_are_read_off_the_files() -> None:
    said = {name: composed([f"dataset={name}"]).dataset.suite for name in paths.choices("dataset")}
    assert suites.members() == {
        suite: [name for name, of in said.items() if of == suite] for suite in {s for s in said.values() if s}
    }
    assert {suite: len(names) for suite, names in suites.members().items()} == {"glue": 9, "super_glue": 8}


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
