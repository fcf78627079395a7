"""MLflow as a sink: one MLflow run for each run, found again by the run's key, in a local store or on a server."""

import contextlib
import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.run.training.sinks import Closing, Ending, flat, needs
from peftbench.run.training.wandb_sink import kind, title
from peftbench.system import redact

#: The tag that finds a run again.
_KEY = "peftbench.key"
#: The store of a results folder, where no other is named.
_STORE = "mlruns"
#: A run's status as MLflow has it.
_STATUS = {"completed": "FINISHED", "pruned": "FINISHED", "interrupted": "KILLED"}
#: Characters that MLflow's stores take of a parameter, and how many parameters at once.
_PARAMETER_LENGTH, _PARAMETERS_AT_ONCE = 500, 100


@needs("mlflow")
def mlflow_logger(*, config: RunConfig, key: str, experiment: str, tracking_uri: str | None) -> Logger:
    """A run of MLflow: the one with this key in the experiment, if there is one, else a new one.

    Args:
        config, key: as every sink's function gets them (`sinks`).
        experiment: MLflow's name for runs that belong together.
        tracking_uri: the store or server; None: MLFLOW_TRACKING_URI, or else a folder in the results folder.
    """
    from mlflow.tracking import MlflowClient

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or _local_store(config)
    client = MlflowClient(uri)
    number = _experiment(client, experiment)
    earlier = client.search_runs([number], f"tags.`{_KEY}` = '{key}'", max_results=1)
    if earlier:
        run_id = earlier[0].info.run_id
        client.update_run(run_id, status="RUNNING")
    else:
        tags = {_KEY: key, "job_type": kind(config), "group": str(redact.redact(config.sweep or ""))}
        run_id = client.create_run(number, run_name=title(config), tags=tags).info.run_id
        _log_parameters(client, run_id, config)
    return MlflowRun(experiment_name=experiment, tracking_uri=uri, run_id=run_id)


def _local_store(config: RunConfig) -> str:
    # MLflow's newest versions refuse a folder as a store unless it is said that it is meant.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return Path(config.results_dir, _STORE).absolute().as_uri()


def _experiment(client: Any, name: str) -> str:
    """The number of an experiment, which is made where there is none. Another run may make it at the same time."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        with contextlib.suppress(MlflowException):
            return str(client.create_experiment(name))
        experiment = client.get_experiment_by_name(name)
    return str(experiment.experiment_id)


def _log_parameters(client: Any, run_id: str, config: RunConfig) -> None:
    from mlflow.entities import Param

    values = flat(redact.data(identity.description(config)), separator=".")
    params = [Param(name, str(value)[:_PARAMETER_LENGTH]) for name, value in values.items() if value is not None]
    for first in range(0, len(params), _PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=params[first : first + _PARAMETERS_AT_ONCE])


class MlflowRun(MLFlowLogger, Closing):
    """Lightning's logger for an MLflow run that is there, which ends as the run itself does."""

    def close(self, ending: Ending) -> None:
        client: Any = self.experiment
        self.log_metrics(ending.numbers())
        client.set_tag(self.run_id, "status", ending.status)
        if ending.error is not None:
            client.set_tag(self.run_id, "error", redact.redact(ending.error))
        if ending.record is not None:
            client.log_dict(self.run_id, redact.data(ending.record.to_dict()), "record.json")
        client.set_terminated(self.run_id, status=_STATUS.get(ending.status, "FAILED"))
