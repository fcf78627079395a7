"""`match=` and `budget=` on the command line: what is chosen, said, left out and refused; reports by budget."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.config.types import RunConfig
from peftbench.results.report import filters
from peftbench.results.report.load import Results
from peftbench.sweep import search_space, sizing
from peftbench.sweep.cells import plan
from tests.helpers.boards import made

Run = Callable[..., tuple[int, str, str]]


def test_methods_are_made_equal_and_said_so(run_cli: Run, tiny: Callable[..., list[str]]) -> None:
    words = ["method=lora,houlsby,beft", "match=parameters", "budget=1%,4%", "dry_run=true", "-m"]
    status, out, _ = run_cli(*tiny(*words))
    assert status == 0
    lines = [line.split() for line in out.splitlines() if "weights," in line and line.startswith("tiny_bert")]
    assert [(line[1], line[2]) for line in lines] == [
        ("1%", "lora"),
        ("1%", "houlsby"),
        ("4%", "lora"),
        ("4%", "houlsby"),
    ]
    left_out = [line for line in out.splitlines() if line.startswith("left out:")]
    assert [line.split()[2] for line in left_out] == ["method=beft", "method=beft"]
    assert "it has no size to set" in left_out[0]
    assert "4 to do" in out


def test_a_single_run_is_made_at_the_size(run_cli: Run, tiny: Callable[..., list[str]], results: Path) -> None:
    words = ["method=lora", "match=parameters", "budget=4%", "recipe.max_steps=2", "measure=false"]
    assert run_cli(*tiny(*words))[0] == 0
    (file,) = (results / "records").rglob("*.json")
    record = json.loads(file.read_text())
    assert record["params"]["adapter"] == pytest.approx(0.04 * record["params"]["total"], rel=0.25)
    assert record["config"]["method"]["adapter"]["lora_alpha"] == 2 * record["config"]["method"]["adapter"]["r"]
    assert "match" not in record["config"]
    out = run_cli(*tiny(*words))[1]
    assert "1 completed (0 now, 1 before)" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["budget=1%"], "budget=1%: match=parameters (or size) and budget=0.2% go together"),
        (["match=parameters"], "match=parameters: match=parameters (or size) and budget=0.2% go together"),
        (["match=latency", "budget=1%"], "match=latency: allowed is parameters | size"),
        (["match=parameters", "budget=some"], "budget=some: allowed is a share of the model's weights such as 0.2%"),
        (["match=parameters", "budget=0%"], "budget=0%: allowed is"),
        (["match=parameters", "budget=0.5"], "budget=0.5: allowed is"),
        (["match=parameters", "budget=1%", "tolerance=5"], "tolerance=5: allowed is a share above 0 such as 25%"),
        (["match=parameters", "budget=1"], "match=parameters: no run of this command line is left; method=lora"),
        (["match=parameters", "budget=1%", "method=zero_shot"], "no run of this command line is left"),
    ],
)
def test_bad_input_is_one_line(words: list[str], says: str, run_cli: Run, tiny: Callable[..., list[str]]) -> None:
    status, _, err = run_cli(*tiny("method=lora", *words))
    assert status == 2
    assert says in err
    assert err.count("\n") == 1


def configs(*words: str) -> list[RunConfig]:
    return plan(["model=tiny_bert", *words], multirun=True).cells


def test_seeds_and_budgets_of_a_method_are_counted_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(target: str, questions: list[tuple[RunConfig, list[str]]], **_: object) -> object:
        asked.extend(questions)
        chosen = {b: {"weights": 10, "values": {}, "wanted": 10.0} for b in ("10", "11")}
        return type("Outcome", (), {"result": [{"base": 100, "chosen": chosen}] * len(questions), "error": None})

    monkeypatch.setattr("peftbench.sweep.sizing.process.call", answer)
    composed = plan(
        ["model=tiny_bert", "method=lora,full", "match=parameters", "budget=10,11", "seed=0,1,2"], multirun=True
    )
    assert len(sizing.match(composed, quiet=True)[0].cells) == 12
    assert [(one.method.name, budgets) for one, budgets in asked] == [("lora", ["10", "11"]), ("full", ["10", "11"])]


def test_trials_leave_the_size_alone() -> None:
    (free,) = configs("method=lora", "tune=3")
    (matched,) = configs("method=lora", "tune=3", "match=parameters", "budget=1%")
    assert "adapter.r" in search_space.of(free)
    assert list(search_space.of(matched)) == ["lr"]


def test_prepared_sweeps_are_of_what_they_say() -> None:
    """Every method of the three families, by its file, and every way to a smaller model."""
    cells = plan(["sweep=equal_parameters", "seed=0", "budget=0.2%"], multirun=False).cells
    assert {c.method.family for c in cells} == {"selective", "reparametrised", "additive"}
    assert len(cells) > 70
    smaller = plan(["sweep=equal_size", "seed=0", "budget=75%"], multirun=False).cells
    assert {c.method.name for c in smaller} == {
        c.method.name for c in configs("method=glob(*)") if c.method.family == "compression"
    }


def record(adapter: int, total: int = 1_000, method: str = "lora") -> object:
    params = {"trainable": adapter + 2, "adapter": adapter, "head": 2, "total": total}
    return made(0.5, f"method={method}", params=params)


def test_reports_by_budget_take_the_runs_that_keep_to_it() -> None:
    runs = [record(adapter) for adapter in (7, 8, 10, 12, 13, 100)]
    within = filters.by_budget(Results(runs, []), {"budget": "1%,10%"})  # type: ignore[arg-type]
    adapters = {budget: [(r.params or {})["adapter"] for r in those.completed] for budget, those in within.items()}
    assert adapters == {"1%": [8, 10, 12], "10%": [100]}
    narrow = filters.by_budget(Results(runs, []), {"budget": "10", "tolerance": "5%"})  # type: ignore[arg-type]
    assert len(narrow["10"].completed) == 1
    assert filters.by_budget(Results(runs, []), {}) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("words", [["budget=50%"], ["budget=lots"], ["budget=1%", "tolerance=all"]])
def test_reports_refuse_budgets_in_one_line(
    words: list[str], run_cli: Run, tiny: Callable[..., list[str]], results: Path
) -> None:
    assert run_cli(*tiny("method=lora", "recipe.max_steps=1", "measure=false"))[0] == 0
    status, _, err = run_cli("report", f"results_dir={results}", *words)
    assert (status, err.count("\n")) == (2, 1)
    assert words[-1].partition("=")[0] in err


def test_a_report_by_budget_has_a_table_for_each(run_cli: Run, tiny: Callable[..., list[str]], results: Path) -> None:
    words = ["match=parameters", "budget=1%,4%", "recipe.max_steps=1", "measure=false", "-m"]
    assert run_cli(*tiny("method=lora", *words))[0] == 0
    status, out, _ = run_cli("report", f"results_dir={results}", "budget=1%,4%")
    assert status == 0
    first, second = out.split("Trained outside the head: 4% of the model")
    assert "Trained outside the head: 1% of the model" in first
    assert first.count("| lora") == second.count("| lora") == 1
    assert run_cli("report", f"results_dir={results}", "budget=1%,4%", "format=csv")[0] == 2
    assert run_cli("report", f"results_dir={results}", "budget=1%", "format=csv")[1].count("lora,tiny_bert") == 1
