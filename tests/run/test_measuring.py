"""A run's score is recorded whatever happens while its speed is measured, and measuring keeps to its time."""

import itertools
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench import errors
from peftbench.results import scored
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore, write_ended
from peftbench.run import bertscore, completing, context, run
from peftbench.sweep import job
from peftbench.system import process, process_group, stop
from peftbench.system.process_group import Outcome
from tests.helpers.runs import TROUBLE, wait

Run = Callable[..., tuple[int, str, str]]

SHORT = ["method=measured", "recipe.max_steps=4"]


def only(results: Path) -> RunRecord:
    """The one record that there is, of any status."""
    (record,) = [record for _, record in ResultStore(results).scan()]
    assert isinstance(record, RunRecord)
    return record


def is_scored(record: RunRecord, results: Path, why: str) -> None:
    """Completed with its score, and null speeds with one footnote that says why; nothing of the run is left over."""
    assert (record.status, record.error) == ("completed", None)
    assert isinstance(record.score, float)
    assert record.metrics["validation"]["n"] == 40  # type: ignore[index]
    assert record.efficiency is not None
    assert [record.efficiency[name] for name in scored.SPEEDS] == [None] * 6
    assert record.efficiency["adapter_bytes"] > 0  # type: ignore[operator]
    assert record.efficiency["micro_batch_size"] == 8
    assert record.log is not None
    assert [note for note in record.footnotes if "inference speed" in note] == [
        f"measured: inference speed wasn't measured ({why})"
    ]
    assert "outstanding" not in record.environment
    assert not (results / "unfinished" / record.key).exists()
    assert list((results / "adapters").rglob("adapter_model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "more", "why"),
    [
        ("dies", [], "error"),
        ("crashes", [], "error"),
        ("exits", [], "error"),
        ("runs out", [], "OutOfMemoryError"),
        ("waits", ["timeout_s=45"], "timeout"),
    ],
)
def test_what_goes_wrong_in_measuring_costs_the_speeds_alone(
    run_cli: Run,
    tiny,
    results: Path,
    trouble: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    more: list[str],
    why: str,
) -> None:
    monkeypatch.setenv("TROUBLE_HOW", how)
    status, out, _ = run_cli(TROUBLE, *tiny(*SHORT, *more))
    assert trouble.exists(), "it didn't come so far"
    assert status == 0
    assert "1 completed (1 now, 0 before), 0 failed" in out
    assert ("had its score; recorded without inference speed" in out) is (how != "runs out")
    is_scored(only(results), results, why)


def test_memory_that_the_kernel_finds_wanting_in_measuring_halves_nothing(
    run_cli: Run, tiny, results: Path, trouble: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = itertools.count()
    monkeypatch.setattr(process_group, "kernel_kills", lambda: next(kills))
    monkeypatch.setenv("TROUBLE_HOW", "dies")
    status, out, _ = run_cli(TROUBLE, *tiny(*SHORT))
    assert (status, "goes on with half" in out) == (0, False)
    is_scored(only(results), results, "oom")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("number", "grace"), [(signal.SIGTERM, 30), (signal.SIGINT, 30), (signal.SIGHUP, 30), (signal.SIGTERM, 0)]
)
def test_asked_to_stop_in_measuring_it_is_completed(
    start, trouble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, grace: int
) -> None:
    monkeypatch.setenv("TROUBLE_HOW", "waits")
    cut = start(*SHORT[1:], f"grace_s={grace}", method="measured")
    wait(trouble.exists, 400)
    cut.send_signal(number)
    out, err = cut.communicate(timeout=60)
    assert (cut.returncode, err) == (130, "peftbench: stopped; the same line goes on from here\n")
    is_scored(only(tmp_path / "results"), tmp_path / "results", "interrupted")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_in_measuring_the_next_start_records_the_score(
    start, run_cli: Run, tiny, trouble: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"
    monkeypatch.setenv("TROUBLE_HOW", "waits")
    killed = start(*SHORT[1:], method="measured")
    wait(trouble.exists, 400)
    killed.kill()
    killed.communicate(timeout=60)
    assert not list(results.rglob("records/**/*.json"))
    monkeypatch.setattr(process, "call", only_verifies(process.call))
    status, out, _ = run_cli(TROUBLE, *tiny(*SHORT))
    assert (status, "had its score when it was stopped: recorded now" in out) == (0, True)
    is_scored(only(results), results, "interrupted")


def only_verifies(call: Callable[..., Any]) -> Callable[..., Any]:
    def checked(target: str, *arguments: Any, **more: Any) -> Any:
        assert target.endswith(":verify"), "it was trained again"
        return call(target, *arguments, **more)

    return checked


@pytest.mark.slow
def test_a_pass_that_takes_too_long_is_dropped(
    run_cli: Run, tiny, results: Path, trouble: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE_HOW", "is slow")
    assert run_cli(TROUBLE, *tiny(*SHORT, "measure_s=1", "timeout_s=200"))[0] == 0
    record = only(results)
    assert [record.efficiency[name] for name in scored.SPEEDS] == [None] * 6  # type: ignore[index]
    note = "measured: inference speed is of fewer examples than usual, or missing (measure_s=1 had gone by)"
    assert [n for n in record.footnotes if n.startswith("measured: inference")] == [note]


def test_it_can_be_left_out_and_the_run_is_the_same(train, cell) -> None:
    key = cell("recipe.max_steps=4").key
    assert cell("recipe.max_steps=4", "measure=false", "measure_s=7", "measure_examples=9").key == key
    record = train("recipe.max_steps=4", "measure=false")
    assert [record.efficiency[name] for name in scored.SPEEDS] == [None] * 6
    assert not any("speed" in note for note in record.footnotes)
    assert "outstanding" not in record.environment


def test_it_says_that_it_measures_and_the_draft_is_kept_before(cell) -> None:
    found = cell("recipe.max_steps=4")
    said: list[Any] = []
    places = ResultStore(found.config.results_dir).places(found.config, found.key)
    given = context.RunContext(found, places, [], said.append, keep=said.append)
    record = run.run(given)
    assert record is not None
    draft, second = [event for event in said if isinstance(event, RunRecord)]
    assert said.index(draft) < said.index({"event": "phase", "phase": "measuring speed"})
    assert scored.outstanding(draft) == [scored.SPEED, scored.MEMORY]
    assert scored.outstanding(second) == [scored.MEMORY]
    assert (draft.status, draft.score, draft.params) == ("completed", record.score, record.params)
    assert record.efficiency["inference_latency_ms"] > 0  # type: ignore[index,operator]
    assert not any("speed" in note for note in record.footnotes)
    assert scored.outstanding(record) == []


def test_a_stop_while_the_weights_are_stored_waits_for_the_record(
    train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, before = run.outputs.save, signal.getsignal(signal.SIGTERM)

    def saves(*given: Any, **more: Any) -> int | None:
        signal.raise_signal(signal.SIGTERM)
        return save(*given, **more)

    monkeypatch.setattr(run.outputs, "save", saves)
    stop.install()
    try:
        record = train("recipe.max_steps=4")
    finally:
        signal.signal(signal.SIGTERM, before)
        stop.ask(False)
    assert isinstance(record.score, float)
    assert "lora: inference speed wasn't measured (interrupted)" in record.footnotes


@pytest.mark.parametrize(("part", "what"), [("save", "weights"), ("write_predictions", "predictions")])
def test_what_a_library_cannot_write_costs_no_score(
    train, monkeypatch: pytest.MonkeyPatch, part: str, what: str
) -> None:
    def fails(*_: Any, **more: Any) -> None:
        raise TypeError("it isn't mine to write")

    monkeypatch.setattr(run.outputs, part, fails)
    record = train("recipe.max_steps=4", "measure=false")
    assert isinstance(record.score, float)
    assert f"lora: {what} weren't kept: TypeError" in record.footnotes


ALL = [scored.BERTSCORE, scored.FORGETTING, scored.SPEED]


@pytest.fixture
def ended(cell, results: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[RunRecord]]:
    """A run whose process says that it has its score, lacking something, and then ends in some way; the records."""

    def end(outcome: Outcome, lacking: list[str], *, heard: bool = True) -> list[RunRecord]:
        found = cell()
        store = ResultStore(results)
        described = run.description(found.config)
        inputs = {
            "data_fingerprint": found.source.fingerprint,
            "model_fingerprint": found.checkpoint.fingerprint,
        }
        figures = {"efficiency": {"run_time_s": 1}, "environment": inputs}
        record = RunRecord(key=found.key, status="completed", config=described, score=0.75, **figures)
        draft = scored.draft(record, lacking)

        def call(target: str, *_: Any, on_event: Any, **more: Any) -> Outcome:
            write_ended(store.places(found.config, found.key).unfinished, draft)
            if heard:
                on_event({"scored": draft.to_dict()})
            if outcome.status == "interrupted":
                raise KeyboardInterrupt if outcome.error == "again" else process.Stopped(outcome)
            return outcome

        monkeypatch.setattr(process, "call", call)
        try:
            job._claim_and_run(found, results / "logs")
        except KeyboardInterrupt:
            assert outcome.status == "interrupted"
        return [record for _, record in store.scan()]  # type: ignore[misc]

    return end


@pytest.mark.parametrize("status", ["error", "oom", "timeout"])
@pytest.mark.parametrize("lacking", [[scored.SPEED], ALL])
def test_a_failure_after_the_score_costs_only_what_it_lacks(ended, status: str, lacking: list[str]) -> None:
    (record,) = ended(Outcome(status=status, error="somehow"), lacking)
    assert (record.status, record.score) == ("completed", 0.75)
    assert record.footnotes == [f"lora: {what} wasn't measured ({status})" for what in lacking]


@pytest.mark.parametrize(("heard", "error"), [(True, "stopped"), (False, "stopped"), (True, "again")])
def test_a_stop_completes_what_lacks_its_speeds_alone(ended, heard: bool, error: str) -> None:
    (record,) = ended(Outcome(status="interrupted", error=error), [scored.SPEED], heard=heard)
    assert (record.status, record.score) == ("completed", 0.75)
    assert record.footnotes == ["lora: inference speed wasn't measured (interrupted)"]


def test_a_run_stopped_before_what_it_was_asked_for_goes_on(ended, results: Path) -> None:
    (record,) = ended(Outcome(status="interrupted", error="stopped"), [scored.FORGETTING, scored.SPEED])
    assert (record.status, record.score) == ("interrupted", None)
    assert (results / "unfinished" / record.key / "record.json").is_file()
    first, second = sorted(ended(Outcome(status="error"), [scored.SPEED]), key=lambda record: record.status)
    assert (first.status, second.status) == ("completed", "interrupted"), "it was taken up again"


def test_each_part_is_added_to_what_was_kept_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[list[str]] = []
    names = {group: {"name": group} for group in ("dataset", "method", "model")}
    record = RunRecord(key="k", status="completed", config=names, efficiency={"a": 1})
    parts: completing.Parts = {
        scored.FORGETTING: lambda before: ({"forgetting": {}}, ["a note"]),
        scored.SPEED: lambda before: ({"efficiency": {**(before.efficiency or {}), "b": 2}}, []),
    }
    found = completing.complete(record, parts, lambda draft: kept.append(scored.outstanding(draft)))
    assert (found.forgetting, found.efficiency, found.footnotes) == ({}, {"a": 1, "b": 2}, ["a note"])
    assert kept == [[scored.SPEED]]
    monkeypatch.setattr(stop, "asked", lambda: True)
    with pytest.raises(errors.Interrupted):
        completing.complete(record, parts, lambda draft: None)


def test_texts_that_cannot_be_compared_cost_no_score(cell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Data:
        config = cell().config

    def fails(*_: Any) -> None:
        raise error

    error: Exception = RuntimeError("out of luck")
    monkeypatch.setattr(bertscore, "add", fails)
    assert bertscore.added("", {}, {}, Data) == ["lora: BERTScore wasn't measured (RuntimeError)"]  # type: ignore[arg-type]
    error = errors.Interrupted()
    with pytest.raises(errors.Interrupted):
        bertscore.added("", {}, {}, Data)  # type: ignore[arg-type]
