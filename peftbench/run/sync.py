"""Sends what is recorded to loggers, later than the runs themselves: what `peftbench sync` starts by the name of
`send`."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config.loading import from_description
from peftbench.errors import ConfigError
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.run.training import sinks
from peftbench.system.process_group import Emit

_log = logging.getLogger(__name__)


def send(root: str, logger: dict[str, Any], records: Sequence[RunRecord], folder: Path, emit: Emit) -> None:
    """Give every record to the configured loggers, as its run would have.

    Args:
        root: the results folder.
        logger: the configuration's `logger`.
        folder: where loggers write.
        emit: gets {"sent": key} or {"failed": key, "why": text} for each record, then {"result": how many were sent}.
    """
    sent = 0
    for record in records:
        try:
            _send(root, logger, record, folder)
        except Exception as error:  # A logger, or an old record, may fail in any way; the others are sent.
            _log.exception("%s", record.key)
            emit({"unsent": record.key, "why": f"{type(error).__name__}: {error}"})
        else:
            sent += 1
            emit({"sent": record.key})
    emit({"result": sent})


def _send(root: str, logger: dict[str, Any], record: RunRecord, folder: Path) -> None:
    described = {**record.config, "changed": record.changed}
    config = from_description({**described, "logger": logger, "results_dir": root})
    config.logger, config.results_dir = logger, root
    loggers = sinks.build(config, record.key, folder)
    if len(loggers) < len(sinks.several(config)):
        raise ConfigError(f"logger: can't be had (log: {folder})")
    places = ResultStore(root).places(config, record.key)
    sinks.finish(loggers, sinks.Ending(record.status, record, places=places))
