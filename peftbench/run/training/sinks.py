"""Sinks: loggers (CSV, TensorBoard, W&B) that a run's numbers go to besides its record. They are never read back, and
a broken one costs the run nothing.

`logger._target_` names one of two things:
- a subclass of Lightning's `Logger`: it is called with the configuration's other arguments and `save_dir`;
- a function that is declared to return a `Logger`: besides those other arguments it is given what it takes by the
  names `config` (the RunConfig), `key` (the run's, text) and `folder` (a Path, for what it writes). `needs` says which
  modules it imports, so that one that isn't installed is reported before training.
"""

import importlib
import inspect
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger

from peftbench.config import identity, targets
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, first_line
from peftbench.results.records import RunRecord
from peftbench.system import redact

_log = logging.getLogger(__name__)

#: Variables that name one run of W&B, or continue one: with them all runs of a sweep would be that one.
_ONE_RUN = [
    f"WANDB_{name}" for name in ("RUN_ID", "RESUME", "RESUME_FROM", "FORK_FROM", "SWEEP_ID", "SWEEP_PARAM_PATH")
]
_KEY = "logger._target_"

F = TypeVar("F", bound=Callable[..., Logger])


def needs(*modules: str) -> Callable[[F], F]:
    """A decorator of a sink's function: the names of the modules that it imports when it is called."""

    def note(sink: F) -> F:
        sink.needs = modules  # type: ignore[attr-defined]
        return sink

    return note


def several(config: RunConfig) -> list[dict[str, Any]]:
    """The arguments of each of a run's sinks, with its `_target_`: `config.logger` names one, or has a section for each
    (`logger=[csv,wandb]`)."""
    sections = [part for part in config.logger.values() if isinstance(part, dict)]
    sinks = [config.logger] if config.logger.get("_target_") is not None else sections
    return [dict(sink) for sink in sinks if sink.get("_target_") is not None]


def _sink(target: str) -> Callable[..., Logger]:
    """The class or function that a configuration names.

    Raises:
        ConfigError: it can't be imported, or is neither.
    """
    try:
        return targets.function(_KEY, target, Logger)
    except ConfigError:
        sink: Callable[..., Logger] = targets.subclass(_KEY, target, Logger)
        return sink


def _own_arguments(sink: Callable[..., Logger], config: RunConfig, key: str, folder: Path) -> dict[str, Any]:
    """What a sink is given besides the arguments of its configuration."""
    if isinstance(sink, type):
        return {"save_dir": str(folder)}
    offered = {"config": config, "key": key, "folder": folder}
    return {name: value for name, value in offered.items() if name in inspect.signature(sink).parameters}


def build(config: RunConfig, key: str, folder: Path) -> list[Logger]:
    """The run's sinks. One that can't be built is logged and left out.

    Args:
        folder: where they write.
    """
    loggers = []
    for arguments in several(config):
        target = arguments.pop("_target_")
        try:
            sink = _sink(target)
            loggers.append(sink(**_own_arguments(sink, config, key, folder), **arguments))
        except Exception:  # A sink may fail in any way of its own; the run's record doesn't depend on it.
            _log.exception("logger: %s can't be had; the run goes on without it", target)
    return loggers


def check(config: RunConfig) -> None:
    """Raises ConfigError for a sink that can't be imported, lacks a module, or could write outside the run's folder:
    before training, not in the run's log."""
    for arguments in several(config):
        targets.check_arguments("logger", {k: v for k, v in arguments.items() if k != "_target_"})
        _check(arguments["_target_"])


def _check(target: str) -> None:
    sink = _sink(target)
    try:
        for module in getattr(sink, "needs", ()):
            importlib.import_module(module)
        if isinstance(sink, type):
            with tempfile.TemporaryDirectory() as folder:  # Lightning looks for the sink's library only now.
                sink(save_dir=folder)
    except Exception as error:
        raise ConfigError(f"{_KEY}={target}: can't be had ({first_line(error)})") from None


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
) -> Logger:
    """A W&B run in this process; offline where the server doesn't answer a connection within `timeout_s`.

    Online without a network W&B itself takes 110 s to give up. An offline run lies in the job's folder and can be sent
    later by `wandb sync`.

    Args:
        config, key, folder: as every sink's function gets them (see above).
        project, entity, tags: W&B's own.
        timeout_s: seconds.
    """
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    mode = os.environ.get("WANDB_MODE", "online")
    if mode == "online" and not _answers(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"), timeout_s):
        _log.warning("logger: W&B doesn't answer; this run is kept offline in %s", folder)
        mode = "offline"
    for variable in _ONE_RUN:
        os.environ.pop(variable, None)
    name = redact.redact(f"{config.method.name}-{config.model.name}-{config.dataset.name}-seed{config.seed}")
    common = {
        "project": project,
        "entity": entity,
        "group": redact.data(config.sweep),
        "name": name,
        "tags": redact.data([config.method.name, config.model.name, config.dataset.name, *tags]),
        "config": {"key": key, **redact.data(identity.description(config))},
        "dir": str(folder),
    }
    settings = wandb.Settings(init_timeout=timeout_s, console="off", disable_git=True, disable_code=True)
    try:
        run = wandb.init(mode=mode, settings=settings, **common)  # type: ignore[arg-type]
    except Exception as error:
        if mode == "offline":
            raise
        _log.warning("logger: W&B failed (%s); this run is kept offline in %s", error, folder)
        run = wandb.init(mode="offline", settings=settings, **common)
    return WandbLogger(experiment=run)


def finish(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Give every sink the record's numbers, and one with a summary (W&B) the whole record, which is stored by now."""
    for logger in loggers:
        try:
            figures = _flat({"metrics": record.metrics, "params": record.params, "efficiency": record.efficiency})
            numbers = {k: v for k, v in figures.items() if isinstance(v, int | float)}
            logger.log_metrics(numbers)
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "summary") and hasattr(experiment, "finish"):
                experiment.summary.update({"record": redact.data(record.to_dict()), **numbers})
                experiment.finish()
            else:
                logger.finalize("success")
        except Exception:
            _log.exception("logger: %s failed at the end; the record is kept", type(logger).__name__)


def _answers(url: str, timeout_s: float) -> bool:
    """Whether a server takes a connection. Behind a proxy True: only the proxy could tell."""
    if os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"):
        return True
    parts = urlsplit(url)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, keys joined by slashes."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}/{name}" if prefix else name).items()
    }
