"""`peftbench estimate records=`: what was measured in runs beside what is estimated of them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.results.report import estimated, load, stats
from tests.helpers import studies
from tests.helpers.boards import made

Cli = Callable[..., tuple[int, str, str]]


def test_a_run_is_estimated_as_it_is_measured(tmp_path: Path, run_cli: Cli) -> None:
    words = ["model=tiny_bert", "dataset=demo", "recipe.max_steps=3", "measure_examples=16", f"results_dir={tmp_path}"]
    assert run_cli(*words, "method=lora,zero_shot", "-m")[0] == 0
    code, out, _ = run_cli("estimate", f"records={tmp_path}")
    assert code == 0
    assert "1 of 1 runs are estimated" in out, "zero_shot trains nothing, so nothing was measured"
    (one,) = stats.leaderboard(load.load(tmp_path)).memory
    assert one.estimated is not None
    assert one.measured.keys() == one.estimated.keys()
    whole = sum(one.measured.values())
    for part, value in one.measured.items():
        assert abs(one.estimated[part] - value) <= 0.01 * max(value, 0.01 * whole), part
    assert run_cli("report", f"results_dir={tmp_path}")[0] == 0
    assert f"{whole / 1e6:,.1f} ({sum(one.estimated.values()) / 1e6:,.1f})" in (tmp_path / "leaderboard.md").read_text()


def test_what_can_not_be_estimated_is_said(tmp_path: Path, run_cli: Cli) -> None:
    record = studies.left(tmp_path, [studies.record("lora", "sst2")])[0]
    file = next((tmp_path / "records").rglob("*.json"))
    content = json.loads(file.read_text())
    content["efficiency"] |= {"memory_parts_bytes": {"gradients": 9}, "memory_length": 16}
    content["config"]["method"]["target"] = "nowhere.Method"
    file.write_text(json.dumps(content))
    code, out, _ = run_cli("estimate", f"records={tmp_path}")
    assert (code, "can't be estimated" in out) == (1, True)
    assert load.load(tmp_path).estimates == {}
    assert record.key


@pytest.mark.parametrize(
    ("words", "says"),
    [(["records=nowhere"], "no such folder"), (["records="], "no such folder"),
     (["records=.", "model=tiny_bert"], "no other word"), (["records=EMPTY"], "measure=true")],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path: Path, run_cli: Cli, words: list[str], says: str) -> None:
    code, _, err = run_cli("estimate", *(word.replace("EMPTY", str(tmp_path)) for word in words))
    assert (code, err.count("\n"), says in err) == (2, 1, True)


@pytest.mark.parametrize("content", ["", "[]", '{"parts": 3}', '{"parts": {"k": {"gradients": -1}}}', '{"more": 1}'])
def test_a_file_without_estimates_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "estimates").mkdir()
    (tmp_path / "estimates" / "memory.json").write_text(content)
    results = load.load(tmp_path)
    assert [name for name, _ in results.unreadable] == ["estimates/memory.json"]


def test_of_a_cell_the_run_that_needs_the_most(tmp_path: Path) -> None:
    runs = [
        made(0.5, f"seed={seed}", efficiency={"memory_parts_bytes": {"gradients": size}, "memory_length": 10 + seed})
        for seed, size in enumerate((5, 9, 7))
    ]
    cells = {id(run): (("lora", "tiny_bert", ""), "demo") for run in runs}
    (one,) = estimated.collect(runs, cells, {runs[1].key: {"gradients": 8}})
    assert (one.length, one.measured, one.estimated) == (11, {"gradients": 9}, {"gradients": 8})
