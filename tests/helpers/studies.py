"""Made-up studies for reports and pages: methods on data sets, with seeds, as a benchmark would leave them."""

import copy
import functools
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from typing import Any

from peftbench.config import identity
from peftbench.results.records import RunRecord
from peftbench.results.report import stats
from peftbench.results.report.load import Results
from peftbench.results.report.page.data import document
from peftbench.results.report.page.document import Cell, Curve, Document, Estimate, Matrix, Row
from peftbench.results.report.page.words import answers
from peftbench.system import fingerprint
from tests.helpers.composed import composed

#: By method: what it lies above chance (of 1), trained parameters, peak memory (MB), training time (s), latency (ms).
METHODS = {
    "full": (0.80, 22_713_986, 1240, 86.0, 6.2),
    "houlsby": (0.79, 595_970, 1003, 42.0, 7.4),
    "lora": (0.78, 74_498, 1033, 34.5, 8.1),
    "dora": (0.78, 80_642, 1101, 61.0, 9.9),
    "ia3": (0.70, 14_594, 990, 30.0, 6.9),
    "bitfit": (0.66, 26_882, 838, 28.0, 6.2),
    "prefix": (0.50, 2_569_474, 951, 54.0, 7.0),
    "prompt": (0.30, 8_450, 988, 53.1, 7.1),
    "linear_probe": (0.20, 770, 364, 12.0, 6.2),
}
#: By data set: chance, what the best reach above it, examples.
DATA = {"sst2": (0.5, 0.42, 872), "rte": (0.5, 0.12, 277), "cola": (0.0, 0.45, 1043)}
MODELS = ("minilm", "tiny_bert")
SEEDS = range(5)


@functools.cache
def _section(group: str, choice: str) -> dict[str, Any]:
    return identity.description(composed([f"{group}={choice}"]))[group]


def record(method: str, dataset: str, model: str = "minilm", seed: int = 0, **changed: Any) -> RunRecord:
    """A run with a score drawn around what its method reaches. `changed`: further fields of the record; `overrides`
    are parts of its configuration by dotted key."""
    overrides: dict[str, Any] = changed.pop("overrides", {})
    config = copy.deepcopy(identity.description(composed([])))
    config |= {"seed": seed, **{g: copy.deepcopy(_section(g, c)) for g, c in
               (("method", method), ("dataset", dataset), ("model", model))}}  # fmt: skip
    for key, value in overrides.items():
        part = config
        *folders, name = key.split(".")
        for folder in folders:
            part = part[folder]
        part[name] = value
    strength, trained, memory, time, latency = METHODS[method]
    chance, span, n = DATA[dataset]
    draw = random.Random(f"{method} {dataset} {model} {seed} {overrides}")
    score = chance + span * strength * (1 if model == "minilm" else 0.6) + draw.gauss(0, 0.012)
    split = {"values": {name: score for name in config["dataset"]["metrics"]}, "score": score, "n": n}
    values: dict[str, Any] = {
        "key": fingerprint.of_json([method, dataset, model, seed, overrides])[:20],
        "metrics": {"train": {"score": min(1.0, score + 0.04)}, config["dataset"]["evaluation"][0]: split},
        "selected_step": 60 + 5 * seed,
        "params": {"trainable": trained, "adapter": trained - 770, "head": 770, "total": 22_731_674},
        "efficiency": {
            **{"peak_memory_bytes": memory * 1_000_000, "train_time_s": time + draw.random()},
            **{"train_samples_per_s": 8000 / time, "adapter_bytes": 4 * trained + 900, "weights_bytes": 91_008_720},
            **{"inference_latency_ms": latency, "inference_latency_ms_base": 6.1},
            **({"inference_latency_ms_merged": 6.2} if method in ("lora", "dora") else {}),
        },
        "environment": {
            "data_fingerprint": dataset,
            "model_fingerprint": model,
            "cpu": "AMD EPYC",
            "cpu_count": 2,
            "threads": 1,
            "gpu": [],
            "packages": {"torch": "2.13.0", "peft": "0.21.2"},
        },  # fmt: skip
        "footnotes": [f"{dataset}: trained on 8000 rows of train"],
        **changed,
    }
    return RunRecord(status="completed", config=config, score=score, **values)


def study() -> list[RunRecord]:
    """Every method on every data set, five seeds each; on SST-2 with a second model and LoRA by rank too."""
    records = [record(m, d, seed=s) for m in METHODS for d in DATA for s in SEEDS]
    records += [record(m, "sst2", "tiny_bert", seed=s) for m in ("full", "lora", "bitfit") for s in range(3)]
    for rank in (2, 4, 16):
        changed: dict[str, Any] = {"overrides": {"method.adapter.r": rank}, "changed": [f"method.adapter.r={rank}"]}
        records += [record("lora", "sst2", seed=s, **changed) for s in SEEDS]
    return records


def page(records: Sequence[RunRecord], **results: Any) -> Document:
    """The document of some records, as it would be with intervals, tests and curves: made up here, of a width that
    benchmarks have, so that pages can be looked at without training anything."""
    made = document(stats.leaderboard(Results(list(records), **results)))
    rows = [replace(row, cells={c: _filled(row, cell, c) for c, cell in row.cells.items()}) for row in made.rows]
    made = replace(made, rows=rows)
    best = {(column.id, model): members[0] for column, model, members in made.panels()}
    rows = [
        replace(row, cells={c: _tied(cell, best[c, row.model].cells[c]) for c, cell in row.cells.items()})
        for row in rows
    ]
    made = replace(made, rows=rows, matrices=[])
    matrices = [
        Matrix(
            column.id,
            model,
            [row.id for row in members],
            [[_better(a, b, column.id) for b in members] for a in members],
        )
        for column, model, members in made.panels()
        if len(members) > 1
    ]
    by_id = {row.id: row for row in rows}
    sweeps = [
        replace(
            one,
            series=[
                replace(line, scores=[by_id[row].cells[one.column].score for row in line.rows]) for line in one.series
            ],
        )
        for one in made.sweeps
    ]
    made = replace(made, matrices=matrices, sweeps=sweeps)
    return replace(made, answers=answers(made))


def _around(mean: float, half: float) -> Estimate:
    return Estimate(mean, (mean - half, mean + half))


def _filled(row: Row, cell: Cell, column: str) -> Cell:
    draw = random.Random(row.id + column)
    half = 0.018 + 0.012 * draw.random()
    steps = range(5, 125, 5)
    mean = [cell.score.mean * (1 - 0.5 * 0.95**step) for step in steps]
    spread = [0.02 * draw.random() + 0.005 for _ in steps]
    return replace(
        cell,
        score=_around(cell.score.mean, half),
        same_examples=(cell.score.mean - half / 2, cell.score.mean + half / 2),
        basis=f"{len(cell.runs)} seeds and the examples",
        metrics={name: _around(metric.mean, half) for name, metric in cell.metrics.items()},
        curve=Curve(steps, mean, [m - s for m, s in zip(mean, spread, strict=True)],
                    [m + s for m, s in zip(mean, spread, strict=True)]),
        warnings=["the best step is the last: it may still be improving"] if row.method == "prompt" else [],
        notes=[("rank", "1 to 4")],
    )  # fmt: skip


def _tied(cell: Cell, best: Cell) -> Cell:
    assert cell.score.interval is not None
    return replace(cell, tied=cell.score.interval[1] >= best.score.mean)


def _better(a: Row, b: Row, column: str) -> float | None:
    if a is b:
        return None
    return NormalDist(0, 0.02).cdf(a.cells[column].score.mean - b.cells[column].score.mean)
