"""Sinks: views of a run's numbers. They are never read back, and a broken one costs the run nothing."""

import logging
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import Logger

from peftbench import imports, redact, schema
from peftbench.errors import ConfigError
from peftbench.records import RunRecord
from peftbench.schema import RunConfig

_log = logging.getLogger(__name__)

#: What names one run of W&B, or goes on with one, for every run that finds it in the environment.
_ONE_RUN = [
    f"WANDB_{name}" for name in ("RUN_ID", "RESUME", "RESUME_FROM", "FORK_FROM", "SWEEP_ID", "SWEEP_PARAM_PATH")
]
_KEY, _WANDB = "logger._target_", "peftbench.loggers.wandb_logger"


def several(config: RunConfig) -> list[dict[str, Any]]:
    """The arguments of each of a run's loggers, their classes as `_target_`: of the one, or of those in sections of
    their own (`logger=[csv,wandb]`)."""
    sections = [part for part in config.logger.values() if isinstance(part, dict)]
    given = [config.logger] if config.logger.get("_target_") is not None else sections
    return [dict(part) for part in given if part.get("_target_") is not None]


def build(config: RunConfig, key: str, folder: Path) -> list[Logger]:
    """The run's loggers; without those, and a line in the log, that can't be had."""
    loggers = []
    for arguments in several(config):
        target = arguments.pop("_target_")
        try:
            if target == _WANDB:
                loggers.append(wandb_logger(config=config, key=key, folder=folder, **arguments))
            else:
                loggers.append(imports.subclass(_KEY, target, Logger)(save_dir=str(folder), **arguments))
        except Exception:  # A sink may fail in any way of its own; the run's record doesn't depend on it.
            _log.exception("logger: %s can't be had; the run goes on without it", target)
    return loggers


def check(config: RunConfig) -> None:
    """Raises ConfigError for a logger whose class can't be imported: said before training, not in its log."""
    for arguments in several(config):
        imports.check_arguments("logger", {k: v for k, v in arguments.items() if k != "_target_"})
        _check(arguments["_target_"])


def _check(target: str) -> None:
    if target != _WANDB:
        made = imports.subclass(_KEY, target, Logger)
    try:
        if target == _WANDB:
            import wandb  # noqa: F401
        else:
            with tempfile.TemporaryDirectory() as folder:  # Lightning looks for the sink's library only now.
                made(save_dir=folder)
    except Exception as error:
        raise ConfigError(f"{_KEY}={target}: can't be had ({str(error).splitlines()[0]})") from None


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

    Online without a network W&B itself takes 110 s to give up; an offline run lies in the job's folder and can be sent
    later by `wandb sync`.
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
        "config": {"key": key, **redact.data(schema.description(config))},
        "dir": str(folder),
    }
    settings = wandb.Settings(init_timeout=timeout_s, console="off", disable_git=True, disable_code=True)
    try:
        run = wandb.init(mode=mode, settings=settings, **common)  # type: ignore[arg-type]
    except Exception as error:
        if mode == "offline":
            raise
        _log.warning("logger: W&B failed (%s); this run is kept offline in %s", error, folder)
        run = wandb.init(mode="offline", settings=settings, **common)  # type: ignore[arg-type]
    return WandbLogger(experiment=run)


def finish(loggers: Sequence[Logger], record: RunRecord) -> None:
    """Give every sink the record's figures, and W&B the whole of it as its summary. The record is safe by now."""
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
    """Whether a connection to a server can be opened; behind a proxy, the proxy's to find out."""
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
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v for name, part in value.items() for k, v in _flat(part, f"{prefix}/{name}" if prefix else name).items()
    }
