"""Published counts of trained weights come out of our methods, to the last weight.

The figures are those of papers, of peft's documentation and of its MetaMathQA comparison; conf/claims/counts.yaml has
them with their sources and, where ours differ, the reason. A model of the published shape is built without weights (on
the meta device), so that even GPT-3's takes no memory.
"""

import re
from collections import Counter
from typing import Any

import pytest

from peftbench.config import paths
from peftbench.errors import NotApplicable
from peftbench.results.reproduction import counts as published
from peftbench.results.reproduction.counts import agrees
from peftbench.run import counts
from tests.helpers.composed import composed

TABLE = published.published()
MODELS, SOURCES, ROWS = TABLE["models"], TABLE["sources"], TABLE["rows"]
REQUIRED = {"id", "shape", "method", "printed", "source"}
OPTIONAL = {"kind", "overrides", "expected", "count", "total", "layers", "make_on", "why", "skip", "error"}


#: Rows whose `why` says how our figure comes to be the printed one.
ALIKE = [row["id"] for row in ROWS if "why" in row and row.get("kind") != "error" and "expected" in row
         and not row["printed"].endswith("%") and agrees(row["printed"], row["expected"])]  # fmt: skip


def cases(rows: list[dict[str, Any]]) -> list:
    """The small models' in the default run, the others' in the matrix."""
    rest = [pytest.mark.slow, pytest.mark.matrix]
    return [pytest.param(row, marks=[] if "quick" in MODELS[row["shape"]] else rest, id=row["id"]) for row in rows]


def _skipped(*, missing: bool) -> list[dict[str, Any]]:
    return [row for row in ROWS if "skip" in row and (row["method"] not in paths.choices("method")) == missing]


def _counts(row: dict[str, Any]) -> dict[str, int]:
    """Weights of the row's method on a model of the row's shape."""
    return counts.of(row, composed(published.words(row)))


@pytest.mark.parametrize(
    ("printed", "figure", "same"),
    [("0.3M", 294_912, True), ("0.35M", 393_216, False), ("33.5M", 33_554_432, True), ("393K", 393_216, True)]
    + [("40k", 38_400, False), ("512", 512, True), ("10,420", 10_240, False), ("1,024", 1_025, False)]
    + [("2.1%", 1.89, False), ("6.1%", 6.17, True)],
)
def test_printed_figures_are_read_as_they_are_meant(printed: str, figure: float, same: bool) -> None:
    assert agrees(printed, figure) is same


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
    assert [r["id"] for r in told if not agrees(r["printed"], r["expected"]) and not r.get("why")] == []


def test_methods_said_to_be_missing_are_missing() -> None:
    """A row with `error` names a method that is there; any other skipped row names one that isn't."""
    assert [row["id"] for row in _skipped(missing=True) if "error" in row] == []
    assert [row["id"] for row in _skipped(missing=False) if "error" not in row] == []


@pytest.mark.parametrize("row", cases([row for row in ROWS if "skip" not in row]))
def test_as_many_weights_are_trained_as_was_printed(row: dict[str, Any]) -> None:
    made = _counts(row)
    assert made[row.get("count", "adapter")] == row["expected"]
    if "total" in row:
        assert made["total"] == row["total"]
    # A percent is so coarse that another formula's figure, which `why` gives, may round to it too.
    if "why" not in row or not row["printed"].endswith("%"):
        assert (published.judge(row, made).verdict == published.EXACT) is ("why" not in row or row["id"] in ALIKE)


@pytest.mark.parametrize("row", cases(_skipped(missing=False)))
def test_what_is_skipped_still_fails(row: dict[str, Any]) -> None:
    with pytest.raises((NotApplicable, RuntimeError), match=re.escape(row["error"])):
        _counts(row)


def test_a_count_that_is_another_is_unexplained() -> None:
    row = next(row for row in ROWS if row["id"] == "pt-t5-small-20")
    made = {"adapter": row["expected"], "trainable": row["expected"], "total": 10**6}
    assert published.judge(row, made).verdict == published.ERROR
    judged = published.judge(row, {**made, "adapter": 10_241})
    assert (judged.verdict, judged.why) == (published.UNEXPLAINED, "10,240 expected")
    assert published.judge(row, None).verdict == published.NOT_COUNTED


def test_the_command_judges_published_counts(run_cli) -> None:
    status, out, _ = run_cli("reproduce", "counts", "shape=roberta-base", "method=lora*")
    assert status == 0
    assert "294,912  exact" in out
    status, _, err = run_cli("reproduce", "counts", "method=nothing")
    assert (status, "no published count is of that method" in err) == (2, True)
