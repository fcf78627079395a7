"""Sinks see the record's numbers; a broken one costs the run nothing."""

import csv
import socket
import threading
import time
from collections.abc import Callable, Iterator
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
from peftbench.run.training.sinks import build as build_sinks
from peftbench.run.training.sinks import finish as finish_sinks
from peftbench.sweep.cells import plan as plan_cells


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


def test_wandb_offline_needs_no_account(run_cli, tiny, results: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert run_cli(*tiny("logger=wandb", "recipe.max_steps=12"))[0] == 0
    (file,) = (results / "logs").rglob("run-*.wandb")
    written = file.read_bytes()
    record = _record(results)
    for text in (record.key, "inference_latency_ms", "lora_alpha", "train/loss"):
        assert text.encode() in written


def test_wandb_gets_project_group_tags_and_configuration(monkeypatch, tmp_path: Path) -> None:
    import wandb

    seen: dict = {}
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", lambda **kwargs: seen.update(kwargs))
    config = plan_cells(
        ["sweep=glue_quick", "method=lora", "dataset=rte", "seed=2", "logger=wandb", "logger.tags=[paper]"],
        multirun=False,
    ).cells[0]
    build_sinks(config, "the-key", tmp_path)
    assert (seen["project"], seen["group"], seen["mode"]) == ("peftbench", "glue_quick", "offline")
    assert seen["tags"] == ["lora", "minilm", "rte", "paper"]
    assert seen["name"] == "lora-minilm-rte-seed2"
    assert seen["config"]["key"] == "the-key"
    assert seen["config"]["method"]["adapter"]["r"] == 8
    assert "results_dir" not in seen["config"]


def test_a_logger_that_cannot_be_built_is_left_out(caplog, tmp_path: Path) -> None:
    config = compose.one(["logger=csv", "+logger.nonsense=1"])
    assert build_sinks(config, "k", tmp_path) == []
    assert "the run goes on without it" in caplog.text


def test_a_logger_that_fails_at_the_end_is_forgiven(caplog) -> None:
    class Broken:
        def log_metrics(self, numbers: dict) -> None:
            raise ConnectionError("gone")

    finish_sinks([Broken()], RunRecord(key="k", status="completed", config={}))  # type: ignore[list-item]
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


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that takes connections and never answers, answers 500, or isn't there."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    if request.param == "refuses":
        listener.close()
    open_connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_connections.append(connection)
            if request.param == "500":
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 500 Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.close()

    if request.param != "refuses":
        threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{port}"
    listener.close()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["refuses", "hangs", "500"], indirect=True)
def test_a_wandb_server_that_is_broken_costs_seconds_and_no_run(
    run_cli: Callable, tiny, results: Path, monkeypatch, server: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", server)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    start = time.monotonic()
    assert run_cli(*tiny("logger=wandb", "logger.timeout_s=2", "recipe.max_steps=4"))[0] == 0
    assert time.monotonic() - start < 40
    assert _record(results).status == "completed"
    assert len(list((results / "logs").rglob("run-*.wandb"))) >= 1
