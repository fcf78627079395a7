"""Sayings put to the test: every check holds, fails and can't tell, on records made up for it."""

from typing import Any

import pytest

from peftbench.config import loading, paths
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.reproduction import findings
from peftbench.results.reproduction.answers import FAILS, HOLDS, UNTOLD
from peftbench.results.reproduction.findings import Finding
from peftbench.sweep import finding as command
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers.boards import made

NOISE = (-0.002, 0.0, 0.002)


def runs(middle: float, *words: str, noise: tuple[float, ...] = NOISE, **more: Any) -> list[RunRecord]:
    return [made(middle + step, f"seed={seed}", *words, **more) for seed, step in enumerate(noise)]


def answer(check: dict[str, Any], records: list[RunRecord]) -> str:
    result = findings.judge(Finding("a saying", "somebody", 1, [check]), records)
    assert result.needs == []
    return result.answer


def _sizes(*middles: float, noise: tuple[float, ...] = NOISE) -> list[RunRecord]:
    words = ("8", "64", "256")
    return [
        record
        for size, middle in zip(words, middles, strict=True)
        for record in runs(middle, "method=houlsby", f"method.adapter.bottleneck_size={size}", noise=noise)
    ]


ALIKE = {"check": "alike", "over": "method.adapter.bottleneck_size", "where": {"method": "houlsby"}, "d": 0.02}


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (_sizes(0.86, 0.86, 0.861), HOLDS),
        (_sizes(0.80, 0.86, 0.86), FAILS),
        (_sizes(0.85, 0.86, 0.85, noise=(-0.03, 0.0, 0.03)), UNTOLD),
    ],
)
def test_alike(records: list[RunRecord], expected: str) -> None:
    assert answer(ALIKE, records) == expected


RANGE = {"check": "range", "over": ["method", "method.lr"], "d": 0.05}


@pytest.mark.parametrize(("worst", "noise", "expected"), [(0.5, NOISE, HOLDS), (0.69, NOISE, FAILS),
                                                          (0.64, (-0.05, 0, 0.05), UNTOLD)])  # fmt: skip
def test_range(worst: float, noise: tuple[float, ...], expected: str) -> None:
    best = runs(0.7, "method=prompt", "method.lr=0.1", noise=noise)
    assert answer(RANGE, [*best, *runs(worst, "method=prompt", "method.lr=0.3", noise=noise)]) == expected


def _overfit(method: str, gap: float, noise: tuple[float, ...] = NOISE) -> list[RunRecord]:
    return runs(0.8, f"method={method}", noise=noise, metrics={"train": {"score": 0.8 + gap}})


OVERFIT = {"check": "difference", "figure": "overfit", "of": {"method": "full"}, "to": {"method": "lora"}, "d": 0.01}


@pytest.mark.parametrize(("gap", "noise", "expected"), [(0.1, NOISE, HOLDS), (-0.05, NOISE, FAILS),
                                                        (0.01, (-0.05, 0, 0.05), UNTOLD)])  # fmt: skip
def test_difference(gap: float, noise: tuple[float, ...], expected: str) -> None:
    assert answer(OVERFIT, [*_overfit("full", gap, noise), *_overfit("lora", 0.0, noise)]) == expected


MEMORY = {"check": "between", "figure": "memory", "where": {"method": "full"}, "between": [12, 20]}


@pytest.mark.parametrize(("ratios", "expected"), [((15, 15.1, 15.2), HOLDS), ((30, 30.1, 30.2), FAILS),
                                                  ((11, 12.5, 14), UNTOLD), ((None,) * 3, UNTOLD)])  # fmt: skip
def test_between(ratios: tuple[float | None, ...], expected: str) -> None:
    records = [
        made(
            0.5,
            f"seed={seed}",
            "method=full",
            efficiency={"peak_memory_bytes": ratio and ratio * 10, "weights_bytes": 10},
        )
        for seed, ratio in enumerate(ratios)
    ]
    assert answer(MEMORY, records) == expected


RATES = ["1e-5", "1e-4", "1e-3", "1e-2"]
RATIO = {
    "check": "best_ratio",
    "over": "method.lr",
    "of": {"method": "lora"},
    "to": {"method": "full"},
    "between": [3, 35],
}


def _rates(method: str, *middles: float, noise: tuple[float, ...] = NOISE) -> list[RunRecord]:
    return [
        record
        for rate, middle in zip(RATES, middles, strict=True)
        for record in runs(middle, f"method={method}", f"method.lr={rate}", noise=noise)
    ]


@pytest.mark.parametrize(
    ("lora", "full", "expected"),
    [
        ((0.5, 0.7, 0.8, 0.6), (0.6, 0.8, 0.7, 0.5), HOLDS),
        ((0.5, 0.8, 0.7, 0.6), (0.6, 0.7, 0.8, 0.5), FAILS),
        ((0.5, 0.6, 0.7, 0.8), (0.6, 0.8, 0.7, 0.5), UNTOLD),  # The best is the grid's last.
        ((0.5, 0.8, 0.8, 0.6), (0.6, 0.8, 0.7, 0.5), UNTOLD),  # Two rates may be the best.
    ],
)
def test_best_ratio(lora: tuple[float, ...], full: tuple[float, ...], expected: str) -> None:
    assert answer(RATIO, [*_rates("lora", *lora), *_rates("full", *full)]) == expected


def test_all_checks_must_hold_and_one_that_fails_is_enough() -> None:
    fails = {**ALIKE, "d": 1e-4}
    records = _sizes(0.85, 0.86, 0.87)
    result = findings.judge(Finding("a saying", "somebody", 1, [ALIKE | {"d": 0.1}, fails]), records)
    assert (result.answer, [check.answer for check in result.checks]) == (FAILS, [HOLDS, FAILS])
    assert "bottleneck_size=" in findings.text(result)


def test_what_is_missing_is_named() -> None:
    result = findings.judge(Finding("a saying", "somebody", 4, [ALIKE]), _sizes(0.86, 0.86, 0.86))
    assert (result.answer, result.needs[0]) == (UNTOLD, "method=houlsby, dataset=demo: 4 seeds, 3 recorded")
    assert findings.judge(Finding("a saying", "somebody", 1, [ALIKE]), [], ["2 of its 9 runs"]).needs == [
        "2 of its 9 runs"
    ]


@pytest.mark.parametrize("name", command.names())
def test_a_finding_is_whole_and_its_sweep_has_what_it_needs(name: str) -> None:
    content = loading.read_yaml(paths.choice_files("sweep")[f"finding_{name}"])
    finding = findings.read(name, content)
    cells = plan_cells([f"sweep=finding_{name}"], multirun=True).cells
    seeds = {config.seed for config in cells}
    assert len(seeds) == finding.seeds >= 3
    methods = {config.method.name for config in cells}
    for check in finding.checks:
        for where in (check.get(key, {}) for key in ("where", "of", "to")):
            assert where.get("method", next(iter(methods))) in methods


def test_six_findings_are_there() -> None:
    assert {"lora_rate", "bottleneck_size", "soft_prompts", "overfitting", "latency", "memory"} <= set(command.names())


WHOLE = {"statement": "s", "source": "x", "needs": 3}


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ({"statement": "s"}, "its block has statement"),
        ({"statement": "s", "source": "x", "needs": 3, "check": [{"check": "alyke"}]}, "nearest: alike"),
        (
            {"statement": "s", "source": "x", "needs": 3, "check": [{"check": "alike", "figure": "scor"}]},
            "nearest: score",
        ),
    ],
)
def test_a_wrong_block_is_named(block: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        findings.read("mine", {"finding": block})


def test_the_command_asks_for_what_is_not_recorded(run_cli, results: Any) -> None:
    status, out, _ = run_cli("reproduce", "finding=memory", "train=false", f"results_dir={results}")
    assert status == 3
    assert "answer   can't tell" in out
    assert "needs    3 of its 3 runs" in out
    status, _, err = run_cli("reproduce", "finding=memry")
    assert (status, "finding=memry: no such finding; nearest: memory" in err) == (2, True)
