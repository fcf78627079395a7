"""What Hydra calls for every cell: skip, claim, train in a fresh process, record. Free of torch."""

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from peftbench import checkpoints, inputs, isolate, schema, terminal
from peftbench.checkpoints import Checkpoint
from peftbench.data import own, sources
from peftbench.data.sources import DataSource
from peftbench.records import RunRecord, run_key
from peftbench.schema import RunConfig
from peftbench.store import ResultStore


@dataclass(frozen=True)
class Cell:
    """A run with its inputs found: what is needed to name it and to start it."""

    config: RunConfig
    key: str
    source: DataSource
    checkpoint: Checkpoint


def prepare(config: RunConfig) -> Cell:
    """Find the data and the model of a run and name it.

    Raises:
        ConfigError: one of them isn't there or isn't right.
    """
    config = replace(config, dataset=own.complete(config.dataset))
    source = sources.locate(config.dataset, data_root=config.data_root, cache=ResultStore(config.results_dir).cache)
    checkpoint = checkpoints.locate(config.model, config.model_root)
    given = inputs.fingerprints(config.method.inputs)
    key = run_key(config, data=source.fingerprint, model=checkpoint.fingerprint, inputs=given)
    return Cell(config, key, source, checkpoint)


def job(composed: DictConfig) -> None:
    """One Hydra job. A failed run is a record, not an exception: the sweep goes on, the exit status is the caller's."""
    hydra = HydraConfig.get()
    folders = schema.search_path(hydra.searchpath)
    config = schema.load(composed, dict(hydra.runtime.choices), hydra.overrides.task, folders)
    if config.sweep is None and hydra.mode is not None and hydra.mode.name == "MULTIRUN":
        config = replace(config, sweep=Path(hydra.sweep.dir).name)
    folder = Path(hydra.runtime.output_dir)
    cell, store = prepare(config), ResultStore(config.results_dir)
    config = cell.config
    if store.completed(config, cell.key) and not config.overwrite:
        terminal.line(config, "already recorded")
        return
    if store.left_out(config, cell.key):
        return
    with store.claim(cell.key) as owned:
        if not owned:
            terminal.line(config, "being run by another process")
            return
        if store.completed(config, cell.key) and not config.overwrite:
            terminal.line(config, "recorded by another process in the meantime")
            return
        _train(cell, store, folder)


def _train(cell: Cell, store: ResultStore, folder: Path) -> None:
    config, log = cell.config, folder / "run.log"
    places = store.places(config, cell.key)
    started = time.monotonic()
    kept: list[RunRecord] = []

    def keep(outcome: isolate.Outcome) -> None:
        kept.append(_record(cell, outcome, log, store))
        store.put(config, kept[0])

    with terminal.progress(config) as on_event:
        try:
            outcome = isolate.call(
                "peftbench.worker:train",
                cell,
                places,
                folder,
                log=log,
                on_event=on_event,
                on_result=lambda result: keep(isolate.Outcome(result=result)),
            )
        except KeyboardInterrupt:
            if not kept:
                keep(isolate.Outcome(status="interrupted", error="stopped by Ctrl-C"))
            raise
        finally:
            shutil.rmtree(places.scratch, ignore_errors=True)
    if not kept:
        keep(outcome)
    terminal.outcome(config, kept[0], time.monotonic() - started)


def _record(cell: Cell, outcome: isolate.Outcome, log: Path, store: ResultStore) -> RunRecord:
    where = os.path.relpath(log, store.root)
    if outcome.result is not None:
        return replace(RunRecord(**outcome.result), log=where)
    return RunRecord(
        key=cell.key,
        status=outcome.status,
        error=outcome.error,
        config=schema.description(cell.config),
        environment={"data_fingerprint": cell.source.fingerprint, "model_fingerprint": cell.checkpoint.fingerprint},
        log=where,
    )
