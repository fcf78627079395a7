"""Sinks see the record's numbers; a broken one costs the run nothing."""

import csv
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger

from peftbench.config import compose
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.training import sinks
from peftbench.run.training.sinks import Ending
from peftbench.run.training.sinks import build as build_sinks
from peftbench.run.training.sinks import finish as finish_sinks


def _record(results: Path) -> RunRecord:
    (record,) = [r for _, r in ResultStore(results).scan()]
    assert isinstance(record, RunRecord)
    return record


def test_csv_holds_steps_and_figures(run_cli, tiny, results: Path) -> None:
    assert run_cli(*tiny("logger=csv", "recipe.max_steps=20"))[0] == 0
    (file,) = (results / "logs").rglob("metrics.csv")
    rows = list(csv.DictReader(file.read_text().splitlines()))
    steps = [int(row["step"]) for row in rows if row["train/loss"]]
    assert steps == [10, 20]
    scores = [float(row["metrics/validation/score"]) for row in rows if row["metrics/validation/score"]]
    assert scores == [pytest.approx(_record(results).score)]


def test_a_logger_that_cannot_be_built_is_left_out(caplog, tmp_path: Path) -> None:
    config = compose.one(["logger=csv", "+logger.nonsense=1"])
    assert build_sinks(config, "k", tmp_path) == []
    assert "the run goes on without it" in caplog.text


def test_a_logger_that_fails_at_the_end_is_forgiven(caplog) -> None:
    class Broken:
        def log_metrics(self, numbers: dict) -> None:
            raise ConnectionError("gone")

    finish_sinks([Broken()], Ending("completed", RunRecord(key="k", status="completed", config={})))  # type: ignore[list-item]
    assert "the record is kept" in caplog.text


def test_an_unknown_logger_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="logger._target_=nowhere.Logger"):
        sinks.check(compose.one(["logger._target_=nowhere.Logger"]))


class Kept(DummyLogger):
    """A sink that keeps what it was given."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given


def takes_all(*, config: RunConfig, key: str, folder: Path, level: int) -> Logger:
    return Kept(config=config, key=key, folder=folder, level=level)


def takes_its_key(key: str) -> Logger:
    return Kept(key=key)


def is_not_declared(key: str):
    return Kept(key=key)


@sinks.needs("a_module_that_is_nowhere")
def lacks_a_module() -> Logger:
    raise NotImplementedError


def test_a_sinks_function_is_given_what_it_takes_by_name(tmp_path: Path) -> None:
    config = compose.one([f"logger._target_={__name__}.takes_all", "+logger.level=3"])
    sinks.check(config)
    (logger,) = build_sinks(config, "the-key", tmp_path)
    assert logger.given == {"config": config, "key": "the-key", "folder": tmp_path, "level": 3}
    (logger,) = build_sinks(compose.one([f"logger._target_={__name__}.takes_its_key"]), "the-key", tmp_path)
    assert logger.given == {"key": "the-key"}


def test_a_configuration_gives_a_sink_no_other_key(caplog, tmp_path: Path) -> None:
    config = compose.one([f"logger._target_={__name__}.takes_its_key", "+logger.key=another"])
    assert build_sinks(config, "k", tmp_path) == []
    assert "the run goes on without it" in caplog.text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lacks_a_module", "can't be had .No module named 'a_module_that_is_nowhere'"),
        ("is_not_declared", "allowed is a subclass of lightning"),
    ],
)
def test_a_sinks_function_that_cannot_be_called_is_refused_before_training(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sinks.check(compose.one([f"logger._target_={__name__}.{name}"]))


def test_a_sink_that_hangs_at_the_end_is_left_alone(caplog, monkeypatch) -> None:
    monkeypatch.setattr(sinks, "CLOSING_S", 0.2)
    released = threading.Event()

    class Hangs(DummyLogger):
        def log_metrics(self, *_: Any, **__: Any) -> None:
            released.wait(30)

    begun = time.monotonic()
    finish_sinks([Hangs()], Ending("completed", RunRecord(key="k", status="completed", config={})))
    assert time.monotonic() - begun < 10
    assert "Hangs takes longer than 0.2 s to end; the record is kept" in caplog.text
    released.set()


def test_an_ordinary_logger_learns_whether_the_run_failed() -> None:
    ends: list[str] = []

    class Notes(DummyLogger):
        def finalize(self, status: str) -> None:
            ends.append(status)

    for status in ("completed", "interrupted", "error"):
        finish_sinks([Notes()], Ending(status))
    assert ends == ["success", "failed", "failed"]
