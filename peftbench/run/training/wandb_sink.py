"""W&B as a sink: one W&B run for each run, found again by the run's key when it goes on after a stop."""

import logging
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from lightning.pytorch.loggers import Logger, WandbLogger

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.results.store import TRIALS
from peftbench.run.training.sinks import Closing, Ending, needs
from peftbench.system import redact

_log = logging.getLogger(__name__)

#: Variables that name one run of W&B, or continue one: with them all runs of a sweep would be that one.
_ONE_RUN = [
    f"WANDB_{name}" for name in ("RUN_ID", "RESUME", "RESUME_FROM", "FORK_FROM", "SWEEP_ID", "SWEEP_PARAM_PATH")
]
#: What Lightning's logger calls the step.
_STEP = "trainer/global_step"
#: Characters of a W&B run's name that its pages show.
_NAME_LENGTH = 128


def title(config: RunConfig) -> str:
    """A run's name: method, model, data set, seed, and the values that the command line changed."""
    changed = (re.sub(r"^[+~]*(?:\w+\.)*", "", override) for override in config.changed)
    words = [config.method.name, config.model.name, config.dataset.name, f"seed{config.seed}", *changed]
    return str(redact.redact("-".join(words)))[:_NAME_LENGTH]


def kind(config: RunConfig) -> str:
    """`trial` for a run that tuning tries, else `run`."""
    return "trial" if Path(config.results_dir).name == TRIALS else "run"


@needs("wandb")
def wandb_logger(
    *,
    config: RunConfig,
    key: str,
    folder: Path,
    project: str,
    entity: str | None,
    tags: Sequence[str],
    timeout_s: float,
    predictions: bool = False,
    adapter: bool = False,
) -> Logger:
    """A W&B run in this process; offline where the server doesn't answer a connection within `timeout_s`.

    Online without a network W&B itself takes 110 s to give up. An offline run lies in the job's folder and can be sent
    later by `wandb sync`.

    Args:
        config, key, folder: as every sink's function gets them (`sinks`).
        project, entity, tags: W&B's own.
        timeout_s: seconds.
        predictions: whether a completed run's predictions are sent as a table.
        adapter: whether its adapter is sent as an artifact.
    """
    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not _answers(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout_s):
        _log.warning("logger: W&B doesn't answer; this run is kept offline in %s", folder)
        mode = "offline"
    for variable in _ONE_RUN:
        os.environ.pop(variable, None)
    described = {
        "project": project,
        "entity": entity,
        "id": key,
        "resume": "allow",  # A run that was stopped goes on in its own curve.
        "group": redact.data(config.sweep),
        "job_type": kind(config),
        "name": title(config),
        "tags": redact.data([config.method.name, config.model.name, config.dataset.name, *tags]),
        "config": {"key": key, **redact.data(identity.description(config))},
        "dir": str(folder),
    }
    return WandbRun(_begin(mode, timeout_s, described), predictions=predictions, adapter=adapter)


def _begin(mode: str, timeout_s: float, described: dict[str, Any]) -> Any:
    """W&B's run; offline where it can't be had online."""
    import wandb

    settings = wandb.Settings(init_timeout=timeout_s, console="off", disable_git=True, disable_code=True)
    try:
        return wandb.init(mode=mode, settings=settings, **described)  # type: ignore[arg-type]
    except Exception as error:
        if mode == "offline":
            raise
        _log.warning("logger: W&B failed (%s); this run is kept offline in %s", error, described["dir"])
        return wandb.init(mode="offline", settings=settings, **described)


class WandbRun(WandbLogger, Closing):
    """Lightning's logger for a W&B run that is there, which ends as the run itself does."""

    def __init__(self, run: Any, *, predictions: bool, adapter: bool) -> None:
        super().__init__(experiment=run)
        self._predictions, self._adapter = predictions, adapter
        # Lightning's logger does so for runs that it has begun itself.
        run.define_metric(_STEP)
        run.define_metric("*", step_metric=_STEP, step_sync=True)

    def close(self, ending: Ending) -> None:
        run: Any = self.experiment
        run.summary.update({"status": ending.status, **ending.numbers()})
        if ending.record is not None:
            run.summary.update({"record": redact.data(ending.record.to_dict())})
        if ending.error is not None:
            run.summary.update({"error": redact.redact(ending.error)})
        if ending.status == "interrupted":
            run.mark_preempting()  # It goes on later: W&B counts it neither as failed nor as crashed.
        if ending.status == "completed" and ending.places is not None:
            self._send_files(run, ending)
        run.finish(exit_code=0 if ending.status in ("completed", "pruned") else 1)

    def _send_files(self, run: Any, ending: Ending) -> None:
        import wandb

        places = ending.places
        assert places is not None
        if self._predictions and places.predictions.is_file():
            rows = redact.data(pq.read_table(places.predictions).to_pylist())
            columns = list(rows[0]) if rows else []
            run.log({"predictions": wandb.Table(columns=columns, data=[list(row.values()) for row in rows])})
        if self._adapter and places.adapter.is_dir():
            artifact = wandb.Artifact(f"adapter-{run.id}", type="adapter")
            artifact.add_dir(str(places.adapter))
            run.log_artifact(artifact)


def _answers(url: str, timeout_s: float) -> bool:
    """True if a server takes a connection. Behind a proxy True: only the proxy could tell."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
