"""Findings that a folder has runs of: kept by the command, judged anew by whoever reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from peftbench.config import identity, loading, paths
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.report import load, render_markdown, stats
from peftbench.results.reproduction import tested
from peftbench.results.reproduction.answers import FAILS, HOLDS, UNTOLD
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers import studies

BETTER: dict[str, Any] = {"check": "difference", "of": {"method": "lora"}, "to": {"method": "linear_probe"}, "d": 0.05}
BLOCK: dict[str, Any] = {"statement": "LoRA beats a probe.", "source": "somebody", "needs": 3, "check": [BETTER]}


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, list[RunRecord]]:
    made = [studies.record(m, "sst2", seed=s) for m in ("lora", "linear_probe") for s in range(3)]
    return tmp_path, studies.left(tmp_path, made)


def answers(folder: Path) -> dict[str, str]:
    return {one.name: one.result.answer for one in load.load(folder).findings}


def test_a_finding_is_judged_by_the_records_that_are_there(folder: tuple[Path, list[RunRecord]]) -> None:
    root, runs = folder
    tested.keep(root, "mine", BLOCK, runs, len(runs))
    assert answers(root) == {"mine": HOLDS}
    tested.keep(root, "mine", {**BLOCK, "check": [{**BETTER, "d": 0.9}]}, runs, len(runs))
    assert answers(root) == {"mine": FAILS}
    next((root / "records").rglob(f"{runs[0].key}.json")).unlink()
    (one,) = load.load(root).findings
    assert (one.result.answer, one.result.needs[0]) == (UNTOLD, "1 of its 6 runs")


def test_records_whose_key_is_not_theirs_do_not_count(folder: tuple[Path, list[RunRecord]]) -> None:
    root, runs = folder
    tested.keep(root, "mine", BLOCK, runs, len(runs))
    file = next((root / "records").rglob(f"{runs[0].key}.json"))
    content = json.loads(file.read_text())
    content["config"]["recipe"]["epochs"] = 77
    file.write_text(json.dumps(content))
    assert answers(root) == {"mine": UNTOLD}


def test_a_report_has_it(folder: tuple[Path, list[RunRecord]], run_cli: Callable[..., tuple[int, str, str]]) -> None:
    root, runs = folder
    tested.keep(root, "mine", BLOCK, runs, len(runs))
    code, out, _ = run_cli("report", f"results_dir={root}")
    assert code == 0
    assert "leaderboard-findings.svg" in out
    ElementTree.parse(root / "leaderboard-findings.svg")
    assert "| mine    | holds here |" in (root / "leaderboard.md").read_text()
    assert '<section id="findings"' in (root / "leaderboard.html").read_text()
    (root / "findings" / "mine.json").unlink()
    assert run_cli("report", f"results_dir={root}")[0] == 0
    assert not (root / "leaderboard-findings.svg").exists(), "one of an earlier report goes"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"finding": {}, "keys": [], "runs": 1}', '{"finding": {}, "keys": 3, "runs": 1}',
     json.dumps({"finding": {**BLOCK, "check": [{"check": "alyke"}]}, "keys": [], "runs": 1}),
     json.dumps({"finding": {**BLOCK, "check": 3}, "keys": [], "runs": 1}),
     json.dumps({"finding": {**BLOCK, "needs": "many"}, "keys": [], "runs": 1}),
     json.dumps({"finding": {**BLOCK, "check": [{"check": "difference"}]}, "keys": ["KEY"], "runs": 1})],
)  # fmt: skip
def test_a_file_that_holds_none_is_said(folder: tuple[Path, list[RunRecord]], content: str) -> None:
    root, runs = folder
    (root / "findings").mkdir()
    content = content.replace("KEY", runs[0].key).replace('"needs": 3', '"needs": 1')
    (root / "findings" / "bad.json").write_text(content)
    tested.keep(root, "good", {**BLOCK, "needs": 1}, runs, len(runs))
    results = load.load(root)
    assert [one.name for one in results.findings] == ["good"]
    assert [name for name, _ in results.unreadable] == ["findings/bad.json"]
    render_markdown.render(stats.leaderboard(results))


def test_the_command_keeps_what_it_rests_on(results: Any, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    """On made-up records of the sweep's own runs."""
    cells = plan_cells(["sweep=finding_memory", f"results_dir={results}"], multirun=True).cells
    root = Path(results)
    for config in cells:
        record = studies.record("full", "sst2", seed=config.seed)
        record.config = identity.description(config)
        record.efficiency = {"peak_memory_bytes": 15_000_000.0, "weights_bytes": 1_000_000.0}
        record.key = key_of(record)
        file = root / "records" / "sst2" / "minilm" / "full" / f"{record.key}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record.to_dict()))
    status, out, _ = run_cli("reproduce", "finding=memory", "train=false", f"results_dir={root}")
    assert status == 0
    assert "answer   holds here" in out
    assert str(root / "findings" / "memory.svg") in out
    drawn = ElementTree.parse(root / "findings" / "memory.svg")
    assert any("15 to 15" in (text.text or "") for text in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert answers(root) == {"memory": HOLDS}
    kept = json.loads((root / "findings" / "memory.json").read_text())
    content = loading.read_yaml(paths.choice_files("sweep")["finding_memory"])
    assert (kept["runs"], kept["finding"]) == (len(cells), content["finding"])
