"""Sinks: loggers (CSV, TensorBoard, W&B) that a run's numbers go to besides its record. They are never read back, and
a broken one costs the run nothing.

`logger._target_` names one of two things:
- a subclass of Lightning's `Logger`: it is called with the configuration's other arguments and `save_dir`;
- a function that is declared to return a `Logger`: besides those other arguments it is given what it takes by the
  names `config` (the RunConfig), `key` (the run's, text) and `folder` (a Path, for what it writes). A logger that it
  makes may be a `Closing`, which learns how its run ended. `needs` says which
  modules it imports, so that one that isn't installed is reported before training.
"""

import importlib
import inspect
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.loggers import Logger

from peftbench.config import targets
from peftbench.config.types import RunConfig
from peftbench.errors import ConfigError, first_line
from peftbench.results.records import RunRecord
from peftbench.results.store import Places

_log = logging.getLogger(__name__)

_KEY = "logger._target_"
#: Seconds that sinks have to end: a server that doesn't answer mustn't keep the next run waiting.
CLOSING_S = 15.0

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
    """The arguments that a sink is given besides those of its configuration."""
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


@dataclass(frozen=True)
class Ending:
    """The end of a run.

    Attributes:
        status: the record's status.
        record: the run's record; None: it failed, and has none of its own yet.
        error: the reason why it isn't completed.
        places: where its predictions and its adapter are.
    """

    status: str
    record: RunRecord | None = None
    error: str | None = None
    places: Places | None = None

    def numbers(self) -> dict[str, float]:
        """The record's figures by name, `score` first."""
        if self.record is None:
            return {}
        record = self.record
        figures = flat({"metrics": record.metrics, "params": record.params, "efficiency": record.efficiency})
        return {k: v for k, v in {"score": record.score, **figures}.items() if isinstance(v, int | float)}


class Closing(Logger):
    """A logger that is told how its run ended, instead of being given its figures as one more step's."""

    def close(self, ending: Ending) -> None:
        raise NotImplementedError


def finish(loggers: Sequence[Logger], ending: Ending) -> None:
    """Tell every sink how the run ended, with its figures, which are stored by now. One that hangs is left alone."""
    waiting = [threading.Thread(target=_finish, args=(logger, ending), daemon=True) for logger in loggers]
    for thread in waiting:
        thread.start()
    until = time.monotonic() + CLOSING_S
    for thread, logger in zip(waiting, loggers, strict=True):
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            _log.warning("logger: %s takes longer than %g s to end; the record is kept", _name(logger), CLOSING_S)


def _finish(logger: Logger, ending: Ending) -> None:
    try:
        if isinstance(logger, Closing):
            logger.close(ending)
            return
        logger.log_metrics(ending.numbers())
        logger.finalize("success" if ending.status in ("completed", "pruned") else "failed")
    except Exception:  # A sink may fail in any way of its own.
        _log.exception("logger: %s failed at the end; the record is kept", _name(logger))


def _name(logger: Logger) -> str:
    return type(logger).__name__


def flat(value: Any, prefix: str = "", separator: str = "/") -> dict[str, Any]:
    """Nested dicts as one, keys joined by the separator."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v
        for name, part in value.items()
        for k, v in flat(part, f"{prefix}{separator}{name}" if prefix else str(name), separator).items()
    }
