"""A made-up study of which all is known: papers' rows, findings, calibration, memory by part, classes, prices."""

import random
from dataclasses import replace
from typing import Any

from peftbench.config.expected import ExpectedConfig
from peftbench.results.records import RunRecord
from peftbench.results.report import stats
from peftbench.results.report.load import Results
from peftbench.results.report.page import sections
from peftbench.results.report.page.document import Document
from peftbench.results.report.stats import Leaderboard
from peftbench.results.reproduction import findings, judge
from peftbench.results.reproduction.findings import Finding
from peftbench.results.reproduction.match import JudgedRow
from peftbench.results.reproduction.tested import Tested
from tests.helpers import studies

PARTS = {"weights_frozen": 90_913_536, "weights_trained": 297_992, "gradients": 297_992, "optimizer": 595_984,
         "activations": 512_345_678, "temporary": 25_165_824}  # fmt: skip
#: What was said and is tested here: check by check.
CHECKS: list[dict[str, Any]] = [
    {"check": "difference", "of": {"method": "full"}, "to": {"method": "linear_probe"}, "d": 0.05},
    {"check": "alike", "over": "method", "where": {}, "d": 0.02},
    {"check": "between", "figure": "memory", "where": {"method": "full"}, "between": [12, 20]},
]


def classes(right: int, wrong: int) -> dict[str, Any]:
    """Of two classes, each `right` times answered rightly and `wrong` times not."""
    share = right / (right + wrong)
    return {"labels": ["negative", "positive"], "precision": [share] * 2, "recall": [share] * 2, "f1": [share] * 2,
            "n": [right + wrong] * 2, "confusion": [[right, wrong], [wrong, right]]}  # fmt: skip


def beyond(draw: random.Random) -> dict[str, Any]:
    drop = draw.uniform(0, 0.05)
    typos = {"n": 872, "changed": 800, "score": 0.8, "drop": drop, "drop_low": drop - 0.02, "drop_high": drop + 0.02}
    groups = {"short": {"n": 400, "score": 0.7 + drop}, "long": {"n": 472, "score": 0.9}}
    return {
        "calibration": {"n": 872, "ece": draw.uniform(0, 0.2), "brier": draw.uniform(0.1, 0.4), "ece_scaled": 0.02,
                        "brier_scaled": 0.2, "selective_accuracy_50": 0.97, "temperature": 1.4},
        "robustness": {"typos": typos},
        "slices": {"length": {"groups": groups, "worst": "short"}},
    }  # fmt: skip


def records() -> list[RunRecord]:
    made = []
    for method in ("full", "lora", "bitfit", "linear_probe"):
        for seed in range(3):
            draw = random.Random(f"{method} {seed}")
            record = studies.record(method, "sst2", seed=seed, evaluation=beyond(draw))
            split = record.metrics["validation"]
            assert split is not None
            split["classes"] = classes(390 + seed, 46 - seed)
            assert record.efficiency is not None
            record.efficiency |= {"memory_parts_bytes": {**PARTS, "activations": draw.randrange(10**8, 6 * 10**8)},
                                  "memory_length": 64}  # fmt: skip
            if method == "linear_probe":
                record.efficiency |= {"hosted_price": 0.0312 + seed, "hosted_questions": 872, "hosted_job_h": 0.25,
                                      "hosted_input_tokens": 48_000, "hosted_output_tokens": 872,
                                      "hosted_trained_tokens": 120_000}  # fmt: skip
            made.append(record)
    return made


def papers() -> list[JudgedRow]:
    """A row of every verdict."""
    known = {"metric": "accuracy", "split": "validation", "selection": "best_on_validation", "base": "b",
             "start": "checkpoint", "rounding": 0.0005, "source": "arXiv 2106.09685, Table 2"}  # fmt: skip
    five: dict[str, Any] = {**known, "statistic": "median", "seeds": 5, "spread": 0.002, "spread_kind": "std"}
    cases = {
        "lora/table2_roberta_base": (0.951, [0.950, 0.951, 0.952, 0.951, 0.950], five),
        "bitfit/table1_bert_large": (0.937, [0.91, 0.912, 0.913, 0.911, 0.912], five),
        "houlsby/table1_bert_large": (0.90, [0.92, 0.922, 0.921], five),
        "prefix_tuning/table2_a_row_with_a_long_name": (0.941, [0.94], {**known, "statistic": "mean"}),
    }
    made = []
    for name, (value, scores, more) in cases.items():
        expected = ExpectedConfig(value=value, departures=["The batch size isn't printed."], **more)
        verdict = judge.judge(expected, scores, floor=judge.floor(expected, 872))
        made.append(JudgedRow(name, "sst2", expected, verdict, expected.departures, ["k"] * len(scores)))
    return made


def tested(runs: list[RunRecord]) -> list[Tested]:
    """Two findings, and one of which runs are missing."""
    finding = Finding(
        "Full fine-tuning is better than a probe, and others are all alike.", "a paper, Table 3", 3, CHECKS
    )
    alone = Finding("Full fine-tuning beats a linear probe.", "somebody", 3, CHECKS[:1])
    results = {
        "all_of_it": findings.judge(finding, runs),
        "better_than_a_probe": findings.judge(alone, runs),
        "unknown_yet": findings.judge(alone, runs, ["3 of its 9 runs"]),
    }
    return [Tested(name, result) for name, result in results.items()]


def board() -> Leaderboard:
    runs = records()
    estimates = {r.key: {**PARTS, "activations": 300_000_000} for r in runs if r.config["method"]["name"] != "bitfit"}
    made = stats.leaderboard(Results(runs, findings=tested(runs), estimates=estimates))
    return replace(made, published=papers())


def page() -> Document:
    return replace(studies.page(records()), sections=list(sections.of(board())))
