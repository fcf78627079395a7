"""Published counts of trained weights come out of our methods, to the last weight.

The figures are those of papers, of peft's documentation and of its MetaMathQA comparison; assets/param_counts.yaml has
them with their sources and, where ours differ, the reason. A model of the published shape is built without weights (on
the meta device), so that even GPT-3's takes no memory.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from peftbench.config import paths
from peftbench.errors import NotApplicable
from peftbench.methods.base import Context
from peftbench.methods.build import build
from peftbench.models import backbones, parameters
from peftbench.models.checkpoints import Checkpoint
from peftbench.tasks.table import build as build_task
from tests.helpers.composed import composed

TABLE = yaml.safe_load((Path(__file__).parents[1] / "assets" / "param_counts.yaml").read_text())
MODELS, SOURCES, ROWS = TABLE["models"], TABLE["sources"], TABLE["rows"]
REQUIRED = {"id", "shape", "method", "printed", "source"}
OPTIONAL = {"overrides", "expected", "count", "total", "layers", "make_on", "why", "skip", "error"}
#: What transformers calls the number of layers.
DEPTHS = ("num_hidden_layers", "n_layer")


def cases(rows: list[dict[str, Any]]) -> list:
    """The small models' in the default run, the others' in the matrix."""
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [pytest.param(row, marks=[] if "quick" in MODELS[row["shape"]] else rest, id=row["id"]) for row in rows]


def _skipped(*, missing: bool) -> list[dict[str, Any]]:
    return [row for row in ROWS if "skip" in row and (row["method"] not in paths.choices("method")) == missing]


def _share(row: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The transformers configuration at the row's depth, and how often that goes into the published one."""
    config = dict(MODELS[row["shape"]]["config"])
    if "layers" not in row:
        return config, 1
    depth = next(name for name in DEPTHS if name in config)
    times, rest = divmod(config[depth], row["layers"])
    assert rest == 0
    return config | {depth: row["layers"]}, times


def _counts(row: dict[str, Any]) -> dict[str, Any]:
    """Weights of the row's method on a model of the row's shape."""
    carrier = f"model={MODELS[row['shape']]['carrier']}"
    run = composed([carrier, f"method={row['method']}", "dataset=sst2", *row.get("overrides", [])])
    if run.model.family == "decoder":
        run.formulation = "verbaliser"  # A language model, as published, without a head.
    run.model.config, times = _share(row)
    task = build_task(run)
    empty = backbones.build_empty(run.model, Checkpoint(None, ""), task)
    with torch.device(row.get("make_on", "meta")):
        adapted = build(run.method).apply(empty, Context(run.model, task, 100, 0, list))
    return {kind: size * times for kind, size in parameters.count(adapted, run.model.head).items()}


def _agrees(printed: str, figure: float) -> bool:
    """Whether a number, rounded or cut to as many digits, is the printed one: 0.3M, 737K, 1,024, 0.83%."""
    whole, decimals, suffix = re.fullmatch(r"([\d,]+)(?:\.(\d+))?([KkM%]?)", printed).groups()  # type: ignore[union-attr]
    scale = {"K": 1e3, "k": 1e3, "M": 1e6}.get(suffix, 1)
    value = float(f"{whole.replace(',', '')}.{decimals or 0}") * scale
    return abs(figure - value) < scale / 10 ** len(decimals or "")


@pytest.mark.parametrize(
    ("printed", "figure", "same"),
    [("0.3M", 294_912, True), ("0.35M", 393_216, False), ("33.5M", 33_554_432, True), ("393K", 393_216, True)]
    + [("40k", 38_400, False), ("512", 512, True), ("10,420", 10_240, False), ("1,024", 1_025, False)]
    + [("2.1%", 1.89, False), ("6.1%", 6.17, True)],
)
def test_printed_figures_are_read_as_they_are_meant(printed: str, figure: float, same: bool) -> None:
    assert _agrees(printed, figure) is same


def test_the_rows_are_there_and_whole() -> None:
    assert len(ROWS) > 100
    assert [name for name, times in Counter(row["id"] for row in ROWS).items() if times > 1] == []
    for row in ROWS:
        assert REQUIRED <= set(row) <= REQUIRED | OPTIONAL, row["id"]
        assert isinstance(row.get("expected"), int) or row.get("skip"), row["id"]
        assert row.get("count", "adapter") in ("adapter", "trainable"), row["id"]
        # A part of the layers has a part of the adapter, and all of the embeddings.
        assert "layers" not in row or ("count" not in row and "total" not in row), row["id"]
        assert "error" not in row or "skip" in row, row["id"]


def test_every_row_has_a_source_and_a_shape_and_none_is_idle() -> None:
    assert {row["source"] for row in ROWS} == set(SOURCES)
    assert {row["shape"] for row in ROWS} == set(MODELS)
    assert all(SOURCES.values())


def test_a_figure_other_than_the_printed_one_is_explained() -> None:
    told = [row for row in ROWS if "expected" in row and not row["printed"].endswith("%")]
    assert [r["id"] for r in told if not _agrees(r["printed"], r["expected"]) and not r.get("why")] == []


def test_methods_said_to_be_missing_are_missing() -> None:
    """A row with `error` names a method that is there; any other skipped row names one that isn't."""
    assert [row["id"] for row in _skipped(missing=True) if "error" in row] == []
    assert [row["id"] for row in _skipped(missing=False) if "error" not in row] == []


@pytest.mark.parametrize("row", cases([row for row in ROWS if "skip" not in row]))
def test_as_many_weights_are_trained_as_was_printed(row: dict[str, Any]) -> None:
    counts = _counts(row)
    assert counts[row.get("count", "adapter")] == row["expected"]
    if "total" in row:
        assert counts["total"] == row["total"]
    if row["printed"].endswith("%") and "why" not in row:
        # Of the model alone, or with the adapter: papers do either.
        bases = (counts["total"], counts["total"] - counts["trainable"])
        assert any(_agrees(row["printed"], 100 * row["expected"] / base) for base in bases)


@pytest.mark.parametrize("row", cases(_skipped(missing=False)))
def test_what_is_skipped_still_fails(row: dict[str, Any]) -> None:
    with pytest.raises((NotApplicable, RuntimeError), match=re.escape(row["error"])):
        _counts(row)
