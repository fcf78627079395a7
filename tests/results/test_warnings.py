"""A record warns of what decides whether its figures mean anything."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from scipy import stats

from peftbench.config import identity
from peftbench.results import records, warnings
from peftbench.results.records import RecordError, RunRecord
from peftbench.results.store import ResultStore
from peftbench.results.warnings import WarningKind
from peftbench.run.prepared import PreparedRun
from peftbench.sweep import job, search_space
from tests.helpers.boards import board, made

Train = Callable[..., RunRecord]

RUN = "lora on demo (tiny_bert, seed 0)"


def said(record: RunRecord) -> dict[str, str]:
    """By kind the text of each warning; none of a kind twice."""
    texts = {warned["kind"]: warned["text"] for warned in warnings.noted(record).warnings}
    assert len(texts) == len(warnings.noted(record).warnings)
    return texts


def test_the_best_step_is_the_last() -> None:
    chosen = {"score": 0.8, "last_score": 0.8, "last_step": 90, "evaluations": 3}
    text = said(made(0.5, "method=lora", selected_step=90, selection=chosen))
    assert text == {
        WarningKind.STILL_IMPROVING: f"{RUN}: the step that scored best is the last: it may still have been improving"
    }
    assert not said(made(0.5, selected_step=60, selection=chosen))
    assert not said(made(0.5, selected_step=90, selection={**chosen, "evaluations": 1})), "there was no other"
    assert not said(made(0.5, selected_step=90, selection=None))


def scoring(accuracy: float, n: int, **more: Any) -> RunRecord:
    split = {"values": {"accuracy": accuracy}, "score": accuracy, "n": n, "majority_fraction": 0.527, **more}
    return made(accuracy, metrics={"validation": split, "train": {**split, "majority_fraction": 1}})


def test_a_score_that_the_commonest_class_may_have() -> None:
    """RTE: 277 rows, 52.7 % of one class. Wilson's interval of 58.5 % (162 right) is 52.6 to 64.1 %."""
    (text,) = said(scoring(162 / 277, 277)).values()
    assert text == (
        f"{RUN}: the accuracy of 58.5 % on validation isn't above that of the commonest class alone, "
        "52.7 % (n = 277, its 95 % interval begins at 52.6 %)"
    )
    assert list(said(scoring(162 / 277, 277))) == [WarningKind.NOT_ABOVE_MAJORITY]
    assert not said(scoring(163 / 277, 277))
    assert said(scoring(0.5, 5000)), "nor is one below it"
    assert not said(scoring(162 / 277, 277, majority_fraction=None))
    assert not said(scoring(0.5, 277, values={"f1": 0.5}))
    floor = scoring(0.5, 277)
    floor.params = {"trainable": 0}
    assert not said(floor)


def of_classes(values: dict[str, float], confusion: list[list[int]]) -> RunRecord:
    names = ["no", "yes"]
    classes = {"labels": names, **{k: [0.5] * 2 for k in ("precision", "recall", "f1")}, "n": [9] * 2}
    n = sum(map(sum, confusion))
    return scoring(0.5, n, values=values, classes={**classes, "confusion": confusion}, majority_fraction=None)


def test_every_metric_that_a_constant_answer_may_have() -> None:
    """F1 of 'yes' for all is 2 p / (1 + p); Matthews of any constant is 0."""
    weak = [[20, 80], [30, 170]]
    (text,) = said(of_classes({"f1": 2 * 170 / (250 + 200)}, weak)).values()
    assert text.startswith(f"{RUN}: the f1 of 75.6 on validation isn't above that of 'yes' for all, 80.0 (n = 300, ")
    (text,) = said(of_classes({"matthews": 0.056}, weak)).values()
    assert "isn't above that of" in text
    assert " for all, 0.0 " in text
    strong = [[90, 10], [10, 190]]
    assert not said(of_classes({"f1": 0.95, "matthews": 0.85}, strong))
    assert not said(of_classes({"rouge1": 0.1}, weak)), "nothing is known of it"
    two = [one["text"] for one in warnings.of(of_classes({"f1": 0.756, "matthews": 0.056}, weak))]
    assert len(two) == 2


@pytest.mark.parametrize(("name", "weak", "strong"), [("pearson", 0.1, 0.3), ("spearman", 0.1, 0.3)])
def test_a_correlation_that_may_be_none(name: str, weak: float, strong: float) -> None:
    (text,) = said(scoring(0.5, 300, values={name: weak}, majority_fraction=None)).values()
    assert f"the {name} of 10.0 on validation isn't above that of a constant answer, 0.0 (n = 300" in text
    assert not said(scoring(0.5, 300, values={name: strong}, majority_fraction=None))


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (10, 10), (162, 277), (700, 872)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    wanted = stats.binomtest(right, n).proportion_ci(method="wilson").low
    assert warnings._wilson_low(right / n, n) == pytest.approx(wanted, abs=1e-12)


def test_of_a_mixture_each_part_is_looked_at() -> None:
    record = scoring(0.5, 277)
    part = {"name": "rte", "evaluation": ["validation"], "train": "train"}
    record.config = {**record.config, "dataset": {**record.config["dataset"], "parts": [part]}}
    assert not said(record)
    record.metrics = {"rte/validation": record.metrics["validation"]}
    assert "on rte/validation" in said(record)[WarningKind.NOT_ABOVE_MAJORITY]


@pytest.mark.parametrize(
    ("best", "edge"), [(1e-4, "lower"), (1.5e-4, "lower"), (1.7e-4, None), (6e-3, None), (7e-3, "upper")]
)
def test_the_best_rate_at_the_edge_of_its_range(best: float, edge: str | None) -> None:
    search = {"lr": [1e-4, 1e-2], "adapter.r": [4, 8]}
    values = {"lr": best, "adapter.r": 8}
    edges = search_space.edges(values, search)
    assert edges == ({} if edge is None else {"lr": edge})
    tuned = {"search": search, "best": {"values": values}, "at_edge": edges}
    text = said(made(0.5, tuning=tuned))
    assert list(text) == ([] if edge is None else [WarningKind.SEARCH_EDGE])
    if edge is not None:
        assert f"the best lr of its trials, {best:g}, lies at the {edge} edge" in text[WarningKind.SEARCH_EDGE]
    assert not said(made(0.5, tuning={"search": search, "best": {"values": values}})), "an older record"


def test_what_was_tuned_is_warned_of_when_the_record_is_put(
    cell: Callable[..., PreparedRun], results: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = cell("tune=2")
    config, store = prepared.config, ResultStore(results)
    best = {"values": {"lr": 1e-2}}
    store.put_tuning(prepared.key, {"search": {"lr": [1e-4, 1e-2]}, "best": best, "at_edge": {"lr": "upper"}})
    record = RunRecord(key=prepared.key, status="completed", config=identity.description(config), score=0.5)
    assert [warned["kind"] for warned in job.keep(prepared, store, record).warnings] == [WarningKind.SEARCH_EDGE]


def test_a_busy_machine() -> None:
    timed = {"train_time_s": 9.0, "inference_latency_ms": 2.0}
    text = said(made(0.5, efficiency={**timed, "train_cores_fraction": 0.35, "inference_cores_fraction": 0.5}))
    assert text == {
        WarningKind.BUSY_TRAINING: f"{RUN}: training had 35 % of its cores, others the rest",
        WarningKind.BUSY_INFERENCE: f"{RUN}: measuring inference had 50 % of its cores, others the rest",
    }
    quiet = {**timed, "train_cores_fraction": 0.35, "train_quiet_windows": 4}
    assert said(made(0.5, efficiency=quiet))[WarningKind.BUSY_TRAINING].endswith("medians over 4 quiet stretches")
    assert not said(made(0.5, efficiency={**timed, "train_cores_fraction": 0.95}))
    assert not said(made(0.5, efficiency={"train_time_s": None, "train_cores_fraction": 0.3}))


def test_a_failed_run_warns_of_nothing() -> None:
    assert not said(made(None, status="error", efficiency=None))


def test_warnings_are_read_back_and_shown(train: Train) -> None:
    record = train("recipe.max_steps=4", "recipe.eval_steps=2", "method.lr=1e-9", "measure=false")
    kinds = [warned["kind"] for warned in record.warnings]
    assert WarningKind.NOT_ABOVE_MAJORITY in kinds, "forty rows, half of each class, and nothing learnt"
    assert record.metrics["validation"]["majority_fraction"] == 0.5  # type: ignore[index]
    again = records.decode(json.dumps(record.to_dict()).encode())
    assert (again.warnings, again.notes) == (
        record.warnings,
        [*record.footnotes, *(w["text"] for w in record.warnings)],
    )
    (row,), notes = board(record).rows, board(record).footnotes
    for text in (warned["text"] for warned in record.warnings):
        # A row that isn't its method's own is named in full.
        assert text in notes or text.replace("lora", f"lora ({row.variant})", 1) in notes
    for wrong in ([{"kind": "x"}], ["text"], [{"kind": "x", "text": 1}]):
        with pytest.raises(RecordError, match="warnings"):
            records.from_dict({**record.to_dict(), "warnings": wrong})
