"""`report`: which runs, in which form, and against which other folder."""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from peftbench.config import identity
from peftbench.config.arguments import options
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.report import command, export_latex, export_parquet, filters, stats
from peftbench.results.report.load import Results, load
from peftbench.results.report.page import data
from peftbench.results.store import ResultStore
from tests.helpers import studies
from tests.helpers.boards import board, made
from tests.helpers.composed import composed

Run = Callable[..., tuple[int, str, str]]
RUNS = [
    made(score + seed / 100, f"method={method}", f"dataset={dataset}", f"seed={seed}")
    for method, score in (("lora", 0.8), ("lora_plus", 0.81), ("full", 0.5))
    for dataset in ("sst2", "rte")
    for seed in range(3)
]


def _names(results: Results) -> set[tuple[str, str]]:
    return {(r.config["method"]["name"], r.config["dataset"]["name"]) for r in results.completed}


def test_runs_are_chosen_by_patterns() -> None:
    chosen = filters.chosen(Results(list(RUNS)), {"method": "lora*", "dataset": "sst2"})
    assert _names(chosen) == {("lora", "sst2"), ("lora_plus", "sst2")}
    assert len(filters.chosen(Results(list(RUNS)), {"method": "full,lora", "model": "tiny*"}).completed) == 12


def test_a_pattern_that_nothing_matches_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="report: method=lara: no run here is of it; nearest: lora"):
        filters.chosen(Results(list(RUNS)), {"method": "lara"})


def _stored(root: Path, *scores: float, method: str = "lora", lr: str = "1e-3", dataset: str = "demo") -> Path:
    store = ResultStore(root)
    for seed, score in enumerate(scores):
        words = [f"dataset={dataset}", f"method={method}", f"method.lr={lr}", f"seed={seed}"]
        config = composed(["model=tiny_bert", *words])
        record = RunRecord(key=f"{method}{seed}", status="completed", score=score, config=identity.description(config))
        store.put(config, record)
    return root


def _failed(root: Path, method: str) -> None:
    config = composed(["model=tiny_bert", "dataset=demo", f"method={method}", "method.lr=1e-3", "seed=0"])
    record = RunRecord(key=f"{method}0", status="oom", error="e", config=identity.description(config))
    ResultStore(root).put(config, record)


def test_several_folders_are_one_leaderboard(tmp_path: Path, run_cli: Run) -> None:
    one, other = _stored(tmp_path / "a", 0.5, 0.6), _stored(tmp_path / "b", 0.7, method="full")
    assert {r.config["method"]["name"] for r in load(one, other).completed} == {"lora", "full"}
    status, out, _ = run_cli("report", f"results_dir=[{one},{other}]")
    assert status == 0
    assert "3 completed, 0 failed: nothing written, as these aren't all runs of one folder" in out
    assert not (one / "leaderboard.md").exists()


def test_each_folder_may_be_a_study_of_its_own(tmp_path: Path, run_cli: Run) -> None:
    """Rows are named by what differs within their study, compared and averaged there alone; a run of both counts in
    both, and mends no failure of the other."""
    one, other = _stored(tmp_path / "one", 0.5, 0.6), _stored(tmp_path / "other", 0.5, 0.6)
    _stored(other, 0.9, lr="3e-3")
    _stored(other, 0.7, method="full")
    _stored(other, 0.7, method="full", dataset="sst2")
    _failed(one, method="full")
    (tmp_path / "empty").mkdir()
    results = load(one, other, apart=True)
    assert len(results.completed) == len(results.studies) == 7
    assert not any("the same run" in why for _, why in results.doubtful)
    assert [record.config["method"]["name"] for record in results.failed] == ["full"]
    assert load(one, other).failed == []
    made_of = stats.leaderboard(results)
    assert [(row.method, row.variant, row.mean) for row in made_of.rows] == [
        ("lora", "study=one", pytest.approx(0.55)),
        ("full", "study=other", pytest.approx(0.7)),
        ("lora", "study=other, lr=0.001", None),
        ("lora", "study=other, lr=0.003", None),
    ]
    page = data.document(made_of)
    assert [(panel.column.name, panel.conditions, len(panel.rows)) for panel in page.panels] == [
        ("demo", "study one", 1),
        ("demo", "study other", 3),
        ("sst2", "study other", 1),
    ]
    assert {(row.study, row.name) for row in page.rows if row.method == "full"} == {("other", "full")}
    assert len(load(one, other).completed) == 5
    status, out, _ = run_cli("report", f"results_dir={tmp_path}/*", "by=folder")
    assert status == 0
    assert out.count("Study: one\n") == out.count("Study: other\n") == 1
    assert "empty" not in out
    status, out, _ = run_cli("report", f"results_dir={tmp_path}/*", "by=folder", "format=html")
    assert "Studies" in out


def test_a_choice_of_runs_overwrites_no_leaderboard(tmp_path: Path, run_cli: Run) -> None:
    root = _stored(tmp_path / "a", 0.5, 0.6)
    _stored(root, 0.7, method="full")
    assert run_cli("report", str(root))[0] == 0
    whole = (root / "leaderboard.md").read_text()
    status, out, _ = run_cli("report", str(root), "method=f*")
    assert status == 0
    assert "full" in out
    assert "| lora" not in out
    assert (root / "leaderboard.md").read_text() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["format=latx"], "report: format=latx: nearest: latex"),
        (["against=nowhere"], "against=nowhere: there is no such folder"),
        (["by=method"], "report: by=method: allowed is folder"),
        (["by=folder", "format=csv"], "report: by=folder makes a page, format=html; for csv name one folder"),
        (["by=folder", "against=."], "report: by=folder can't be said with against"),
        (["results_dir=no/such*"], "results_dir=no/such*: no folder with records matches"),
        (["results_dir=[]"], "results_dir=[]: names no folder"),
        (["methods=lora"], "report: methods=lora: nearest: method="),
    ],
)
def test_mistakes_are_told(tmp_path: Path, run_cli: Run, arguments: list[str], message: str) -> None:
    status, _, error = run_cli("report", f"results_dir={_stored(tmp_path / 'a', 0.5)}", *arguments)
    assert status == 2
    assert message in error


def test_a_folder_may_stand_before_other_arguments() -> None:
    assert options("report", ["here", "method=lora"], method="") == {"results_dir": "here", "method": "lora"}
    with pytest.raises(ConfigError):
        options("status", ["here", "there"])


def test_latex_shows_the_best_in_bold_and_any_name_as_text() -> None:
    hostile = made(0.1, "method=bitfit", "dataset=sst2")
    hostile.config = {**hostile.config, "method": {**hostile.config["method"], "name": r"a_b&\input{x}%"}}
    text = export_latex.export(board(*RUNS, hostile)).decode()
    assert r"lora\_plus & \textbf{82.0}" in text
    assert r"full & 51.0 {\scriptsize [48.5, 53.5]}" in text
    assert r"a\_b\&\textbackslash{}input\{x\}\%" in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_parquet_holds_every_figure() -> None:
    table = pq.read_table(io.BytesIO(export_parquet.export(board(*RUNS)))).to_pylist()
    score = next(line for line in table if line["method"] == "lora" and line["column"] == "sst2")
    assert (score["value"], score["n"], score["basis"], score["tied"]) == (pytest.approx(0.81), 3, "seeds alone", True)
    assert score["low"] < 0.81 < score["high"]
    memory = [line["value"] for line in table if line["figure"] == "efficiency.peak_memory_bytes"]
    assert memory == [5_000_000] * 3


def test_parquet_holds_what_the_tables_say_of_rows_together() -> None:
    runs = [studies.record(name, data, seed=s) for name in ("lora", "full") for data in ("sst2", "rte") for s in (0, 1)]
    result = board(*runs)
    table = pq.read_table(io.BytesIO(export_parquet.export(result))).to_pylist()
    by_figure: dict[str, list[dict]] = {}
    for line in table:
        by_figure.setdefault(line["figure"], []).append(line)
    (panel, _), pairs = result.evidence.panels, by_figure["difference"]
    assert [line["other"].split(" · ")[0] for line in pairs] == [one.pairs[0].b[0] for one in result.evidence.panels]
    assert pairs[0]["value"] == panel.pairs[0].difference.mean
    assert pairs[0]["low"] < pairs[0]["value"] < pairs[0]["high"]
    assert len(by_figure["p (Holm)"]) == 2
    assert {(line["low"], line["high"]) for line in by_figure["rank"]} <= {(1, 1), (1, 2), (2, 2)}
    assert len(by_figure["train - eval"]) == 4


@pytest.mark.parametrize("name", ["markdown", "csv", "latex"])
def test_a_form_is_printed_alone(tmp_path: Path, run_cli: Run, name: str) -> None:
    root = _stored(tmp_path / "a", 0.5, 0.6)
    status, out, _ = run_cli("report", str(root), f"format={name}")
    assert status == 0
    assert out.startswith({"markdown": "# Leaderboard", "csv": "method,model", "latex": "% \\usepackage"}[name])
    assert "completed" not in out
    assert not (root / "leaderboard.csv").exists()


def test_the_forms_are_those_that_there_are() -> None:
    assert {"markdown", "csv", "latex", "parquet"} <= set(command.formats())
