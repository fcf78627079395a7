"""What Hydra calls for every cell: skip, claim, train in a fresh process, record. Free of torch."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from peftbench import (
    benchmarks,
    checkpoints,
    crew,
    guard,
    inputs,
    isolate,
    judge,
    launchers,
    redact,
    schema,
    scored,
    terminal,
)
from peftbench.benchmarks import Questions
from peftbench.checkpoints import Checkpoint
from peftbench.data import prepared, sources
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError, NotApplicable
from peftbench.records import RunRecord, run_key
from peftbench.schema import AS_METRIC, DatasetConfig, RunConfig
from peftbench.store import ResultStore, rescue

#: A file in a sweep's log folder that keeps a launcher's workers from starting further runs.
STOPPED = "stopped"


@dataclass(frozen=True)
class Cell:
    """A run with its inputs found: what is needed to name it and to start it. `judge`: BERTScore's model."""

    config: RunConfig
    key: str
    source: DataSource
    checkpoint: Checkpoint
    questions: dict[str, Questions] = field(default_factory=dict)
    judge: Checkpoint | None = None


def prepare(config: RunConfig) -> Cell:
    """Find the data and the model of a run and name it.

    Raises:
        ConfigError: one of them isn't there or isn't right; NotApplicable: the method needs a split that isn't there.
    """
    cache = ResultStore(config.results_dir).cache
    reads = config.method.reads_train is not False
    try:
        data, source = prepared.prepare(config.dataset, data_root=config.data_root, cache=cache, train=reads)
    except NotApplicable as error:
        raise NotApplicable(f"method={config.method.name} on dataset={config.dataset.name}: {error}") from None
    config = replace(config, dataset=_directed(data))
    if reads:
        _check_rows(config, config.dataset, source)
    from_key = "dataset.parts" if data.parts else "dataset.title" if data.title and data.format else "dataset"
    guard.check_names({from_key: data.name, "model": config.model.name, "method": config.method.name})
    checkpoint = checkpoints.locate(config.model, config.model_root, config.start_from)
    questions, judged = benchmarks.locate(config), judge.locate(config)
    given = {**inputs.fingerprints(config.method.inputs), **benchmarks.fingerprints(questions)}
    if judged is not None:
        given["bertscore_model"] = judged.fingerprint
    key = run_key(config, data=source.fingerprint, model=checkpoint.fingerprint, inputs=given)
    return Cell(config, key, source, checkpoint, questions, judged)


def _check_rows(config: RunConfig, data: DatasetConfig, source: DataSource) -> None:
    """Raises ConfigError for a training split of which nothing is left to train on."""
    for part in data.parts or []:
        _check_rows(config, part, source.parts[part.name])
    carves = config.recipe.selection == "best_on_selection" and config.recipe.shots is None
    if carves and not data.parts and sources.count(source, data.train) < 2:
        raise ConfigError(
            f"dataset={data.name}: {data.train} has one row, and recipe.selection=best_on_selection takes it to select "
            "on; recipe.selection=last needs none"
        )


def _directed(data: DatasetConfig) -> DatasetConfig:
    """With max or min for every metric that is only named, in the parts of a mixture too."""
    parts = None if data.parts is None else [_directed(part) for part in data.parts]
    if AS_METRIC not in data.metrics.values():
        return replace(data, parts=parts)
    from peftbench import metrics  # Over a second of scikit-learn, which only a named metric needs here.

    return replace(data, metrics=metrics.directed(data.metrics), parts=parts)


def job(composed: DictConfig) -> None:
    """One Hydra job. A failed run is a record, not an exception: the sweep goes on, the exit status is the caller's."""
    hydra = HydraConfig.get()
    redact.install()  # A launcher's worker didn't come by `cli`.
    if hydra.output_subdir is not None:  # Hydra has written the configuration as it was typed.
        redact.folder(Path(hydra.runtime.output_dir, hydra.output_subdir), ("*.yaml",))
    folders = schema.search_path(hydra.searchpath)
    config = schema.load(composed, dict(hydra.runtime.choices), hydra.overrides.task, folders)
    several = hydra.mode is not None and hydra.mode.name == "MULTIRUN"
    if config.sweep is None and several:
        config = replace(config, sweep=Path(hydra.sweep.dir).name)
    failed = Path(hydra.sweep.dir, "failed") if several else None
    alone = several and launchers.describe(hydra.launcher, [config]).alone
    stopped = Path(hydra.sweep.dir, STOPPED) if several and not alone else None
    if (config.fail_fast and failed is not None and failed.exists()) or (stopped is not None and stopped.exists()):
        return
    record = None
    with isolate.stoppable(), _quietly(stopped, alone=alone):
        record = _claim_and_run(prepare(config), Path(hydra.runtime.output_dir))
    if config.fail_fast and failed is not None and record is not None and record.status != "completed":
        failed.touch()
        terminal.line(config, "failed: no further run is started (fail_fast)")


@contextlib.contextmanager
def _quietly(stopped: Path | None, *, alone: bool) -> Iterator[None]:
    """In a launcher's worker, to be stopped is not an exception: the launcher would answer it by killing its other
    workers, which are saving their state. A file keeps them from starting the next run, unless a worker is stopped
    `alone`."""
    try:
        yield
    except KeyboardInterrupt:
        if not terminal.watched_by_another() or not (stopped or alone):
            raise
        if stopped is not None:
            stopped.touch()


def _claim_and_run(cell: Cell, folder: Path) -> RunRecord | None:
    """Make a run and record it, unless that isn't to be done, or isn't this process's to do."""
    config, store = cell.config, ResultStore(cell.config.results_dir)
    if store.completed(config, cell.key) and not config.overwrite:
        terminal.line(config, "already recorded")
        return None
    if store.left_out(config, cell.key):
        return None
    with store.claim(cell.key) as owned:
        if not owned:
            terminal.line(config, "being run by another process")
            return None
        if store.completed(config, cell.key) and not config.overwrite:
            terminal.line(config, "recorded by another process in the meantime")
            return None
        ended = store.ended(config, cell.key)
        if ended is not None and not scored.resumable(ended):
            what = "had its score" if scored.outstanding(ended) else "had ended"
            terminal.line(config, f"{what} when it was stopped: recorded now")
            return keep(cell, store, scored.settled(ended, "interrupted"))
        return _run(cell, store, folder)


#: The same run would meet it again.
_CERTAIN = ("diverged",)


def _run(cell: Cell, store: ResultStore, folder: Path) -> RunRecord:
    """Try a run until it is recorded, or as often as `retry` allows."""
    for more in range(cell.config.retry, -1, -1):
        with launchers.own_gpu(cell.config):
            record = _try(cell, store, folder)
        if record.status in ("completed", *_CERTAIN) or not more:
            break
        terminal.line(cell.config, f"is tried again ({more} more)")
    return record


def _try(cell: Cell, store: ResultStore, folder: Path) -> RunRecord:
    """One try of a run, with its record: a completed one is written as soon as it is there, and one that had its score
    is completed, however the run ended."""
    config, log, started = cell.config, folder / "run.log", time.monotonic()
    kept: list[RunRecord] = []
    drafts: list[RunRecord] = []

    def on_result(result: dict[str, Any]) -> None:
        kept.append(keep(cell, store, RunRecord(**result)))

    def otherwise(outcome: crew.Outcome) -> RunRecord:
        if not drafts and outcome.status == "interrupted" and (left := store.ended(config, cell.key)) is not None:
            drafts.append(left)  # The last that it said may not have been listened to.
        return keep(cell, store, _scored(cell, outcome, drafts) or _failure(cell, outcome, log, store))

    with terminal.progress(config) as show:

        def on_event(event: dict[str, Any]) -> None:
            if "scored" in event:
                drafts[:] = [RunRecord(**event["scored"])]
            else:
                show(event)

        try:
            outcome = _fitting(cell, store, log, on_event=on_event, on_result=on_result)
        except isolate.Stopped as stopped:
            if not kept:
                otherwise(stopped.outcome)
            raise
        except KeyboardInterrupt:  # Asked again, it doesn't wait.
            if not kept and drafts and not scored.resumable(drafts[0]):
                keep(cell, store, scored.settled(drafts[0], "interrupted"))
            raise
    record = kept[0] if kept else otherwise(outcome)
    redact.folder(folder, ("*.log",))  # What compiled code wrote past this process's streams.
    terminal.outcome(config, record, time.monotonic() - started)
    return record


def _fitting(
    cell: Cell,
    store: ResultStore,
    log: Path,
    *,
    on_event: crew.Emit,
    on_result: Callable[[dict[str, Any]], None],
) -> crew.Outcome:
    """Run a cell in a fresh process; where memory runs out in training or evaluation, go on with batches half as large.

    The global batch stays, and so does the run's key: only how it is cut changes.
    """
    config, halvings, computing = cell.config, 0, False

    def watch(event: dict[str, Any]) -> None:
        nonlocal computing
        # With its score there it isn't trained again, whatever becomes of the rest.
        computing = "scored" not in event and (computing or event.get("phase") in ("training", "evaluating"))
        on_event(event)

    while True:
        computing = False
        outcome = isolate.call(
            "peftbench.worker:train",
            cell,
            store.places(config, cell.key),
            log.parent,
            os.path.relpath(log, store.root),
            halvings,
            log=log,
            devices=config.hardware.devices,
            on_event=watch,
            on_result=on_result,
            on_stop=lambda: terminal.line(config, "stopping: its state is being saved (Ctrl-C again: not)"),
            grace_s=config.grace_s,
            timeout_s=config.timeout_s,
        )
        size = schema.micro_batch_size(config, halvings)
        if outcome.status != "oom" or not computing:
            return outcome
        if size == 1:
            return replace(outcome, error=f"{outcome.error} (with micro batches of 1, the smallest)")
        halvings += 1
        terminal.line(config, f"out of memory with micro batches of {size}: goes on with half of that")


def keep(cell: Cell, store: ResultStore, record: RunRecord) -> RunRecord:
    """Put a record where it belongs, and forget the state that a completed run leaves behind.

    Where the disk doesn't take it, it is kept elsewhere, and that is said: the numbers cost hours.
    """
    if cell.config.tune is not None:
        record = replace(record, tuning=store.tuning(cell.key))
    with isolate.undisturbed():
        try:
            store.put(cell.config, record)
        except OSError as error:
            print(f"peftbench: {terminal.name(cell.config)}: {rescue(record, store, error)}", file=sys.stderr)
            return record
        if record.status in ("completed", *_CERTAIN):
            store.forget(cell.key)
    return record


def _scored(cell: Cell, outcome: crew.Outcome, drafts: list[RunRecord]) -> RunRecord | None:
    """The record of a run that ended without a result and had its score; None: it had none, or goes on for the rest."""
    if not drafts or (outcome.status == "interrupted" and scored.resumable(drafts[0])):
        return None
    rest = ", ".join(scored.outstanding(drafts[0]))
    if rest:
        terminal.line(cell.config, f"had its score; recorded without {rest}: {outcome.error or outcome.status}")
    return scored.settled(drafts[0], outcome.status)


def _failure(cell: Cell, outcome: crew.Outcome, log: Path, store: ResultStore) -> RunRecord:
    return RunRecord(
        key=cell.key,
        status=outcome.status,
        error=outcome.error,
        config=schema.description(cell.config),
        changed=cell.config.changed,
        environment={"data_fingerprint": cell.source.fingerprint, "model_fingerprint": cell.checkpoint.fingerprint},
        log=os.path.relpath(outcome.log or log, store.root),
        log_tail=crew.tail(outcome.log or log),
    )
