"""Made-up studies for reports and pages: methods on data sets, with seeds, as a benchmark would leave them."""

import copy
import functools
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

from peftbench.config import identity
from peftbench.results import curves
from peftbench.results.curves import Point
from peftbench.results.reading import key_of
from peftbench.results.records import RunRecord
from peftbench.results.report import stats
from peftbench.results.report.load import Results
from peftbench.results.report.page.data import document
from peftbench.results.report.page.document import Cell, CurveBand, Document, Matrix, MeanWithInterval, PageRow
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
    """The document of some records, as it would be with predictions and curves beside them: intervals, tests and curves
    are made up here, of a width that benchmarks have, so that pages can be looked at without training anything."""
    made = document(stats.leaderboard(Results(list(records), **results)))
    filled = {
        row.id: replace(row, cells={c: _filled(row, cell, c) for c, cell in row.cells.items()}) for row in made.rows
    }
    panels = []
    for panel in made.panels:
        column, best = panel.column.id, filled[panel.rows[0].id].cells[panel.column.id]
        for row in panel.rows:
            cells = {**filled[row.id].cells, column: _tied(filled[row.id].cells[column], best)}
            filled[row.id] = replace(filled[row.id], cells=cells)
        panels.append(panel)
    panels = [replace(panel, rows=[filled[row.id] for row in panel.rows]) for panel in panels]
    matrices = [
        Matrix(
            panel.name,
            panel.column.id,
            panel.model,
            panel.rows,
            [[_better(a, b, panel.column.id) for b in panel.rows] for a in panel.rows],
        )
        for panel in panels
        if len(panel.rows) > 1
    ]
    sweeps = [
        replace(one, series=[
            replace(line, scores=[filled[row].cells[one.column].score for row in line.rows]) for line in one.series
        ])
        for one in made.sweeps
    ]  # fmt: skip
    return replace(made, rows=list(filled.values()), panels=panels, matrices=matrices, sweeps=sweeps)


def _around(mean: float, half: float) -> MeanWithInterval:
    return MeanWithInterval(mean, (mean - half, mean + half))


def _filled(row: PageRow, cell: Cell, column: str) -> Cell:
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
        curve=CurveBand(steps, mean, [m - s for m, s in zip(mean, spread, strict=True)],
                    [m + s for m, s in zip(mean, spread, strict=True)]),
        warnings=["the best step is the last: it may still be improving"] if row.method == "prompt" else [],
        notes=[("rank", "1 to 4")],
    )  # fmt: skip


def _tied(cell: Cell, best: Cell) -> Cell:
    assert cell.score.interval is not None
    return replace(cell, tied=cell.score.interval[1] >= best.score.mean)


def _better(a: PageRow, b: PageRow, column: str) -> float:
    return NormalDist(0, 0.02).cdf(a.cells[column].score.mean - b.cells[column].score.mean)


def left(folder: Path, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Write records of data sets that are scored by accuracy into a results folder, with predictions and curves beside
    them; returns them with the scores of these predictions. An example that is hard is so for all."""
    return [_left(folder, record) for record in records]


def _left(folder: Path, made: RunRecord) -> RunRecord:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    config = made.config
    split, n = config["dataset"]["evaluation"][0], DATA[config["dataset"]["name"]][2]
    labels = np.random.default_rng(0).integers(0, 2, n)
    ease = np.random.default_rng(1).normal(0, 1.5, n)
    draw = np.random.default_rng(int(made.key[:8], 16))
    assert made.score is not None
    chance = 1 / (1 + np.exp(-(ease + 1.6 * np.log(made.score / (1 - made.score)) + draw.normal(0, 0.1))))
    answers = np.where(draw.random(n) < chance, labels, 1 - labels)
    score = float((answers == labels).mean())
    metrics = {**made.metrics, split: {"values": {"accuracy": score}, "score": score, "n": n}}
    record = replace(made, score=score, metrics=metrics)
    record.key = key_of(record)
    cell = Path(*(config[group]["name"] for group in ("dataset", "model", "method")))
    for place in ("records", "predictions", "curves"):
        (folder / place / cell).mkdir(parents=True, exist_ok=True)
    (folder / "records" / cell / f"{record.key}.json").write_text(json.dumps(record.to_dict()), encoding="utf-8")
    rows = {"split": [split] * n, "row": list(range(n)), "label": labels, "answer": answers}
    pq.write_table(pa.table(rows), folder / "predictions" / cell / f"{record.key}.parquet")
    points = [
        Point(step=step, examples=32 * step, seconds=float(step), lr=0.1, loss=0.5,
              selection_score=score * (1 - 0.5 * 0.95**step) + draw.normal(0, 0.005))
        for step in range(5, 125, 5)
    ]  # fmt: skip
    curves.write(folder / "curves" / cell / f"{record.key}.parquet", points)
    return record
