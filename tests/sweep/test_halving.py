"""Trials that are ended early by successive halving."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.results.records import RunRecord
from peftbench.results.report.load import load
from peftbench.results.store import ResultStore

pytest.importorskip("optuna", reason="the extra tune isn't installed")
Run = Callable[..., tuple[int, str, str]]

#: The first trial has the method's own rate; the others' are a thousand times as high and more.
LINE = (
    "model=tiny_bert",
    "dataset=demo",
    "method=full",
    "method.lr=0.003",
    "method.search={lr: [1e-3, 1e3]}",
    "recipe.epochs=3",
    "recipe.eval_steps=15",
    "recipe.max_length=32",
    "measure=false",
    "tune=3",
    "tune_halving={examples: 960, factor: 2}",
)


def records(results: Path) -> list[tuple[Path, RunRecord]]:
    return [(file, record) for file, record in ResultStore(results).scan() if isinstance(record, RunRecord)]


def pruned(results: Path) -> dict[Path, int]:
    """The files of trials that were ended early, with the time at which each was written."""
    ended = [file for file, record in records(results / "trials") if record.status == "pruned"]
    return {file: file.stat().st_mtime_ns for file in ended}


@pytest.mark.slow
def test_a_trial_with_an_absurd_rate_is_ended_and_a_killed_study_goes_on(run_cli: Run, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    status, out, err = run_cli(*LINE, f"results_dir={whole}")
    assert status == 0, (out, err)
    ((_, final),) = records(whole)
    tuning = final.tuning
    assert tuning is not None
    assert (tuning["trials"], tuning["failed"]) == (3, 0)
    assert 1 <= tuning["pruned"] == len(pruned(whole)) == sum(trial["pruned"] for trial in tuning["tried"])
    assert tuning["examples_seen"] == sum(trial["examples_seen"] for trial in tuning["tried"])
    assert tuning["best"]["values"] == {"lr": 0.003} == tuning["tried"][0]["values"]
    assert not tuning["best"]["pruned"]
    trials = {record.key: record for _, record in records(whole / "trials")}
    for trial in tuning["tried"]:
        record = trials[trial["key"]]
        assert record.halving is not None
        assert record.halving["examples_seen"] == trial["examples_seen"]
        if trial["pruned"]:
            assert (record.status, record.score, trial["score"]) == ("pruned", None, None)
            assert 960 <= trial["examples_seen"] < 4320 == tuning["best"]["examples_seen"]
    board = load(whole)
    assert [record.key for record in board.completed] == [final.key]
    assert board.failed == []

    command = [sys.executable, "-m", "peftbench", *LINE, f"results_dir={killed}"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 300
        while not pruned(killed) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = pruned(killed)
    assert before
    assert not records(killed)
    status, out, err = run_cli(*LINE, f"results_dir={killed}")
    assert status == 0, (out, err)
    assert before.items() <= pruned(killed).items()
    ((_, again),) = records(killed)
    assert again.tuning == tuning
    assert again.score == final.score


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tune_halving={examples: 64, factor: 2}"], "tune_halving: goes with tune=N"),
        (["tune=2", "tune_halving={examples: 0, factor: 2}"], "allowed is {examples: E, factor: F}"),
        (["tune=2", "tune_halving={examples: 64, factor: 1}"], "allowed is {examples: E, factor: F}"),
        (["tune=2", "tune_halving={examples: 64}"], "allowed is {examples: E, factor: F}"),
        (["tune=2", "tune_halving={examples: 64, factor: 2, rungs: 3}"], "allowed is {examples: E, factor: F}"),
        (["tune=2", "tune_halving=true"], "tune_halving"),
        (["tune=2", "tune_halving={examples: 64, factor: 2, before: [a]}"], "allowed is {examples: E, factor: F}"),
        (["tune_halving={examples: 64, factor: 2, before: 3}"], "tune_halving"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_one_line(
    tiny: Callable[..., list[str]], run_cli: Run, words: list[str], says: str
) -> None:
    status, out, err = run_cli(*tiny("method=lora", *words))
    assert status == 2, out
    assert says in err
    assert err.count("\n") == 1
