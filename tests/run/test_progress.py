"""How far a run is while it evaluates and measures: what it tells, and what is shown of it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from peftbench.results import activity
from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.run import run
from peftbench.run.training import progress
from peftbench.sweep import table, terminal


def told(events: list[dict[str, Any]], phase: str) -> list[tuple[int, int]]:
    """By what was told in a phase, how many batches were done of how many."""
    within, pairs = "", []
    for event in events:
        within = event.get("phase", within)
        if within == phase and event.get("event") == "progress":
            pairs.append((event["batch"], event["batches"]))
    return pairs


def test_every_batch_of_evaluating_and_measuring_is_told(
    cell: Callable[..., Any], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress.Counted.__init__, "__kwdefaults__", {"every_s": 0.0})
    monkeypatch.setattr(progress, "SELDOM", 0.0)
    prepared = cell("method=bitfit", "recipe.max_steps=3", "hardware.eval_batch_size=8", "measure_examples=16")
    events: list[dict[str, Any]] = []
    record = run(RunContext(prepared, ResultStore(results).places(prepared.config, prepared.key), [], events.append))
    assert record is not None
    # What was selected on has been answered while the model trained.
    rows = sum(part["n"] for name, part in record.metrics.items() if part and name != "selection")
    evaluated = told(events, "evaluating")
    total = evaluated[0][1]
    assert rows / 8 <= total <= rows / 8 + len(record.metrics)
    assert evaluated == [(number, total) for number in range(1, total + 1)]
    measured = told(events, "measuring speed")
    assert measured == [(number, measured[0][1]) for number in range(1, measured[0][1] + 1)]
    assert measured[0][1] > 16


def test_events_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    events: list[dict[str, Any]] = []
    counted = progress.Counted(events.append, 30, every_s=10)
    assert list(counted.of(range(20))) + list(counted.of(range(10))) == [*range(20), *range(10)]
    assert [event["batch"] for event in events] == [10, 20, 30]


PHASE = {"event": "phase", "phase": "evaluating"}
STEP = {"event": "step", "step": 4, "steps": 4, "loss": 0.5, "score": 0.75}


def test_the_table_and_the_status_show_how_far_evaluating_is(cell: Callable[..., Any], results: Path) -> None:
    config = cell("method=bitfit").config
    with activity.reporting(config, "a run") as report:
        report({"event": "phase", "phase": "training"})
        assert table._row(report(STEP), bars=True)[1].plain == "4/4"  # type: ignore[union-attr]
        state = report(PHASE)
        assert (state.batch, state.batches, table._row(state, bars=True)[2]) == (None, None, "")
        (written,) = activity.running(results)
        assert (written.phase, written.step) == ("evaluating", 4)
        state = report({"event": "progress", "batch": 6, "batches": 12})
        row = table._row(state, bars=True)
        assert row[1].plain == "evaluating"  # type: ignore[union-attr]
        assert (row[2].completed, row[2].total) == (6, 12)  # type: ignore[union-attr]
        state = report({"event": "phase", "phase": "measuring speed"})
        assert (state.batch, state.batches) == (None, None)


def test_the_bar_of_one_run_goes_on(cell: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=shown, force_terminal=True, width=120))
    monkeypatch.delenv(table.WATCHED, raising=False)
    with terminal._bar(cell("method=bitfit").config) as draw:
        for event in (STEP, PHASE, {"event": "progress", "batch": 7, "batches": 12}):
            draw(event)
    assert "evaluating" in shown.getvalue()
    assert "7/12" in shown.getvalue()
