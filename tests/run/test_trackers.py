"""W&B and MLflow: one run of theirs for each of ours, whatever happened to it; read back as they themselves read it."""

import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from peftbench.config import compose
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.training import wandb_sink
from peftbench.run.training.sinks import build as build_sinks
from peftbench.sweep.cells import plan as plan_cells
from tests.helpers.runs import ASSETS, wait
from tests.helpers.wandb_files import offline_runs

#: Methods that fail, each in its way.
FAULTY = f"--config-dir={ASSETS / 'conf'}"


def _record(results: Path) -> RunRecord:
    (record,) = [r for _, r in ResultStore(results).scan() if isinstance(r, RunRecord) and r.status == "completed"]
    return record


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_RUN_ID", "one-for-all")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


def test_wandb_offline_needs_no_account(run_cli, tiny, results: Path, offline: None) -> None:
    words = ["logger=wandb", "recipe.max_steps=12", "method=lora,bitfit", "seed=3", "-m"]
    assert run_cli(*tiny(*words))[0] == 0
    runs = offline_runs(results)
    records = {r.key: r for _, r in ResultStore(results).scan() if isinstance(r, RunRecord)}
    assert sorted(run["run_id"] for run in runs) == sorted(records)
    assert {run["display_name"] for run in runs} == {f"{m}-tiny_bert-sst2-seed3" for m in ("lora", "bitfit")}
    assert len({run["run_group"] for run in runs}) == 1
    for run in runs:
        assert (run["exit"], run["job_type"], run["project"]) == (0, "run", "peftbench")
        assert float(run["summary"]["score"]) == records[run["run_id"]].score
        assert run["summary"]["status"] == '"completed"'
        assert "inference_latency_ms" in run["summary"]["record"]
        assert run["steps"] == sorted(set(run["steps"]))
        assert ("*", "trainer/global_step") in run["metrics"]


def test_a_line_started_again_has_the_same_group(run_cli, tiny, results: Path, offline: None, tmp_path: Path) -> None:
    words = ["logger=wandb", "recipe.max_steps=2", "method=lora,bitfit", "measure=false", "-m"]
    assert run_cli(*tiny(*words))[0] == 0
    first = {run["run_group"] for run in offline_runs(results)}
    assert run_cli(*tiny(*words, f"results_dir={tmp_path / 'again'}"))[0] == 0
    assert {run["run_group"] for run in offline_runs(tmp_path / "again")} == first
    assert run_cli(*tiny(*words, f"results_dir={tmp_path / 'other'}", "recipe.batch_size=8"))[0] == 0
    assert {run["run_group"] for run in offline_runs(tmp_path / "other")}.isdisjoint(first)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_in_the_same_wandb_run(
    start: Callable[..., subprocess.Popen], results: Path, tmp_path: Path, offline: None
) -> None:
    words = [
        f"results_dir={results}",
        "logger=wandb",
        "recipe.max_steps=80",
        "logger.predictions=true",
        "checkpoint_every_s=0",
    ]
    parent = start(*words)
    wait(lambda: list((results / "unfinished").glob("*/state.pt")))
    time.sleep(2)  # Some steps more, of which every tenth is logged.
    parent.send_signal(signal.SIGTERM)
    parent.communicate(timeout=120)
    (tmp_path / "trouble").unlink(missing_ok=True)
    assert start(*words).communicate(timeout=200)[0] is not None
    first, second = offline_runs(results)
    assert first["run_id"] == second["run_id"] == _record(results).key
    assert (first["exit"], first["preempted"], second["exit"]) == (1, True, 0)
    assert first["summary"]["status"] == '"interrupted"'
    assert [*first["steps"], *second["steps"]] == sorted({*first["steps"], *second["steps"]}), "one curve"
    assert "predictions" in second["summary"]


@pytest.mark.slow
def test_a_run_that_failed_ends_as_failed(run_cli, trouble: Path, tiny, results: Path, offline: None) -> None:
    assert run_cli(FAULTY, *tiny("logger=wandb", "method=raises", "recipe.max_steps=6"))[0] == 1
    (run,) = offline_runs(results)
    assert run["exit"] == 1
    assert run["summary"]["status"] == '"error"'
    assert "error" in run["summary"]


def test_wandb_gets_project_group_tags_and_configuration(monkeypatch, tmp_path: Path) -> None:
    import wandb

    seen: dict = {}

    class Run:
        def define_metric(self, *names: str, **options: Any) -> None: ...

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(wandb, "init", lambda **kwargs: seen.update(kwargs) or Run())
    words = ["sweep=glue_quick", "method=lora", "dataset=rte", "seed=2", "method.lr=0.01", "logger=wandb"]
    config = plan_cells([*words, "logger.tags=[paper]"], multirun=False).cells[0]
    build_sinks(config, "the-key", tmp_path)
    assert (seen["project"], seen["group"], seen["mode"]) == ("peftbench", "glue_quick", "offline")
    assert (seen["id"], seen["resume"], seen["job_type"]) == ("the-key", "allow", "run")
    assert seen["tags"] == ["lora", "minilm", "rte", "paper"]
    assert seen["name"] == "lora-minilm-rte-seed2-lr=0.01"
    assert seen["config"]["key"] == "the-key"
    assert seen["config"]["method"]["adapter"]["r"] == 8
    assert "results_dir" not in seen["config"]


def test_a_trial_is_told_from_a_run(tmp_path: Path) -> None:
    assert wandb_sink.kind(compose.one([f"results_dir={tmp_path}/trials"])) == "trial"
    assert wandb_sink.kind(compose.one([f"results_dir={tmp_path}"])) == "run"


@pytest.fixture
def mlflow() -> Any:
    return pytest.importorskip("mlflow")


def _mlflow_runs(results: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient((results / "mlruns").absolute().as_uri())
    return list(client.search_runs([client.get_experiment_by_name("peftbench").experiment_id]))


def test_mlflow_keeps_a_run_a_key(run_cli, tiny, results: Path, mlflow: Any, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ["logger=[mlflow,csv]", "recipe.max_steps=12"]
    for more in ([], ["overwrite=true"]):
        assert run_cli(*tiny(*words, *more))[0] == 0
    (run,), record = _mlflow_runs(results), _record(results)
    assert run.info.status == "FINISHED"
    assert run.data.tags["peftbench.key"] == record.key
    assert run.data.metrics["score"] == record.score
    assert run.data.params["method.adapter.r"] == "8"
    assert "train/loss" in run.data.metrics


def test_recorded_runs_are_sent_later(run_cli, tiny, results: Path, offline: None) -> None:
    assert run_cli(*tiny("recipe.max_steps=4", "measure=false"))[0] == 0
    status, out, err = run_cli("sync", "logger=wandb", f"results_dir={results}")
    assert (status, err) == (0, "")
    assert "1 of 1 records sent" in out
    (run,) = offline_runs(results)
    record = _record(results)
    assert (run["run_id"], run["exit"], float(run["summary"]["score"])) == (record.key, 0, record.score)
    assert "Nothing to send" in run_cli("sync", "logger=wandb", f"results_dir={results}")[1]
    assert "1 of 1" in run_cli("sync", "logger=wandb", f"results_dir={results}", "overwrite=true")[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "sync: logger= is required"),
        (["logger=none"], "logger=none: keeps nothing"),
        (["logger=wandb", "results_dir=nowhere"], "results_dir=nowhere: there is no such folder"),
        (["logger=nope"], "logger"),
        (["logger=wandb", "overwrite=yes"], "overwrite=yes: allowed is true or false"),
        (["logger=wandb", "seed=1"], "seed"),
    ],
)
def test_sync_refuses_in_one_line(run_cli, tmp_path: Path, words: list[str], message: str) -> None:
    place = [] if any(word.startswith("results_dir") for word in words) else [f"results_dir={tmp_path}"]
    status, _, err = run_cli("sync", *words, *place)
    assert (status, len(err.strip().splitlines())) == (2, 1)
    assert message in err


@pytest.mark.slow
def test_mlflow_ends_a_failed_run_as_failed(run_cli, trouble: Path, tiny, results: Path, mlflow: Any, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert run_cli(FAULTY, *tiny("logger=mlflow", "method=raises", "recipe.max_steps=6"))[0] == 1
    (run,) = _mlflow_runs(results)
    assert run.info.status == "FAILED"
    assert run.data.tags["status"] == "error"


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
