"""`peftbench sync logger=wandb`: sends recorded runs to loggers that weren't there when they ran."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.config import arguments, compose
from peftbench.errors import ConfigError, Failed
from peftbench.results.folders import Folder
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore
from peftbench.sweep import terminal
from peftbench.system import escape, fingerprint, process


def main(words: Sequence[str]) -> int:
    """Send every completed record that this logger hasn't got; returns 1 if one can't be sent."""
    options = [word for word in words if not word.startswith("logger")]
    loggers = [word for word in words if word.startswith("logger")]
    if not loggers:
        raise ConfigError("sync: logger= is required, e.g. logger=wandb")
    chosen = arguments.options("sync", options, overwrite="false")
    root = Path(chosen["results_dir"])
    if not root.is_dir():
        raise ConfigError(f"results_dir={root}: there is no such folder; a run makes it")
    config = compose.one([*loggers, f"results_dir={root}"])
    if not config.logger.get("_target_") and not any(isinstance(part, dict) for part in config.logger.values()):
        raise ConfigError("logger=none: keeps nothing; allowed are the names in `peftbench list loggers`")
    sent = root / Folder.SENT / fingerprint.of_json(config.logger)[:16]
    again = arguments.switch(chosen, "overwrite")
    records = [
        record
        for _, record in ResultStore(root).scan()
        if isinstance(record, RunRecord)
        and record.status == "completed"
        and (again or not (sent / record.key).exists())
    ]
    return _send(root, config.logger, records, sent) if records else _nothing(root)


def _nothing(root: Path) -> int:
    terminal.console.print(escape.line(f"Nothing to send in {root}: overwrite=true sends again"), markup=False)
    return 0


def _send(root: Path, logger: dict[str, Any], records: Sequence[RunRecord], sent: Path) -> int:
    unsent: dict[str, str] = {}
    sent.mkdir(parents=True, exist_ok=True)

    def note(event: dict[str, Any]) -> None:
        if "sent" in event:
            (sent / event["sent"]).touch()
        elif "unsent" in event:
            unsent[event["unsent"]] = event["why"]

    folder = root / Folder.LOGS / "sync"
    folder.mkdir(parents=True, exist_ok=True)
    with terminal.waiting(f"sending {len(records)} records"):
        call = ("peftbench.run.sync:send", str(root), logger, list(records), folder)
        outcome = process.call(*call, log=folder / "sync.log", on_event=note)
    if outcome.result is None:
        raise Failed(f"sync: {outcome.error} (log: {folder / 'sync.log'})")
    terminal.console.print(f"{outcome.result} of {len(records)} records sent")
    for key, why in unsent.items():
        terminal.console.print(escape.line(f"{key}: {why}"), markup=False)
    return 1 if unsent else 0
