"""What Hydra calls for every cell: skip, claim, train in a fresh process, record."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from peftbench.config import identity, loading
from peftbench.results import scored, warnings
from peftbench.results.records import RunRecord
from peftbench.results.store import ResultStore, rescue
from peftbench.run.prepared import PreparedRun, prepare
from peftbench.sweep import launchers, slurm, terminal
from peftbench.system import gpus, process, process_group, redact

#: A file in a sweep's log folder that keeps a launcher's workers from starting further runs.
STOPPED = "stopped"
#: A file in a sweep's log folder: what loggers group the runs of its command line by.
GROUP = "group"


def _group(folder: Path) -> str | None:
    """The group of a command line's runs, written among its logs; a trial's folder is at trials/."""
    places = (folder, folder.parents[2] / folder.parent.name / folder.name)
    return next(((place / GROUP).read_text() for place in places if (place / GROUP).is_file()), None)


def hydra_job(composed: DictConfig) -> None:
    """One Hydra job. A failed run is a record, not an exception: the sweep goes on, the exit status is the caller's."""
    hydra = HydraConfig.get()
    redact.install()  # A launcher's worker didn't come by `cli`.
    if hydra.output_subdir is not None:  # Hydra has written the configuration as it was typed.
        redact.folder(Path(hydra.runtime.output_dir, hydra.output_subdir), ("*.yaml",))
    folders = loading.search_path(hydra.searchpath)
    config = loading.load(composed, dict(hydra.runtime.choices), hydra.overrides.task, folders)
    several = hydra.mode is not None and hydra.mode.name == "MULTIRUN"
    if config.sweep is None and several:
        config = replace(config, sweep=_group(Path(hydra.sweep.dir)))
    failed = Path(hydra.sweep.dir, "failed") if several else None
    alone = several and launchers.describe(hydra.launcher, [config]).alone
    stopped = Path(hydra.sweep.dir, STOPPED) if several and not alone else None
    if (config.fail_fast and failed is not None and failed.exists()) or (stopped is not None and stopped.exists()):
        return
    record = None
    with process.stoppable(), _quietly(stopped, alone=alone):
        record = _claim_and_run(prepare(config), Path(hydra.runtime.output_dir))
    if config.fail_fast and failed is not None and record is not None and record.status not in ("completed", "pruned"):
        failed.touch()
        terminal.line(config, "failed: no further run is started (fail_fast)")


@contextlib.contextmanager
def _quietly(stopped: Path | None, *, alone: bool) -> Iterator[None]:
    """Swallow KeyboardInterrupt (Ctrl-C or SIGTERM) in a launcher's worker: a launcher would answer an exception by
    killing its other workers, which are saving their state.

    Args:
        stopped: a file that keeps workers from starting the next run; None: there is none.
        alone: whether this worker is stopped without the others.
    """
    try:
        yield
    except KeyboardInterrupt:
        if not terminal.watched_by_another() or not (stopped or alone):
            raise
        if stopped is not None:
            stopped.touch()
        if alone and slurm.starts_again():
            # With a result, which an end as any other would leave, nobody would wait for what comes.
            raise SystemExit(1) from None


def _claim_and_run(cell: PreparedRun, folder: Path) -> RunRecord | None:
    """Make a run and record it, unless it is recorded, not applicable, or claimed by another process."""
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


#: Statuses that another try can't change.
NOT_RETRIED = ("diverged", "pruned")


def _run(cell: PreparedRun, store: ResultStore, folder: Path) -> RunRecord:
    """Try a run until it is recorded, or as often as `retry` allows."""
    hardware = cell.config.hardware
    for tries_left in range(cell.config.retry, -1, -1):
        with gpus.own_gpu(hardware.devices if hardware.accelerator == "gpu" else 0):
            record = _try(cell, store, folder)
        if record.status in ("completed", *NOT_RETRIED) or not tries_left:
            break
        terminal.line(cell.config, f"is tried again ({tries_left} more)")
    return record


def _try(cell: PreparedRun, store: ResultStore, folder: Path) -> RunRecord:
    """One try of a run, with its record: a completed one is written as soon as it is there, and one that had its score
    is completed, however the run ended."""
    config, log, started = cell.config, folder / "run.log", time.monotonic()
    records: list[RunRecord] = []
    drafts: list[RunRecord] = []

    def on_result(result: dict[str, Any]) -> None:
        records.append(keep(cell, store, RunRecord(**result)))

    def otherwise(outcome: process_group.Outcome) -> RunRecord:
        if not drafts and outcome.status == "interrupted" and (left := store.ended(config, cell.key)) is not None:
            drafts.append(left)  # The process's last event may have come when nobody listened any more.
        return keep(cell, store, _scored(cell, outcome, drafts) or _failure(cell, outcome, log, store))

    with terminal.progress(config) as show:

        def on_event(event: dict[str, Any]) -> None:
            if "scored" in event:
                drafts[:] = [RunRecord(**event["scored"])]
            else:
                show(event)

        try:
            outcome = _fitting(cell, store, log, on_event=on_event, on_result=on_result)
        except process.Stopped as stopped:
            if not records:
                otherwise(stopped.outcome)
            raise
        except KeyboardInterrupt:  # Asked again, it doesn't wait.
            if not records and drafts and not scored.resumable(drafts[0]):
                keep(cell, store, scored.settled(drafts[0], "interrupted"))
            raise
    record = records[0] if records else otherwise(outcome)
    redact.folder(folder, ("*.log",))  # What compiled code wrote past this process's streams.
    terminal.outcome(config, record, time.monotonic() - started)
    return record


def _fitting(
    cell: PreparedRun,
    store: ResultStore,
    log: Path,
    *,
    on_event: process_group.Emit,
    on_result: Callable[[dict[str, Any]], None],
) -> process_group.Outcome:
    """Run a cell in a fresh process; where memory runs out in training or evaluation, go on with batches half as large.

    The global batch stays, and so does the run's key: only how it is cut changes.
    """
    config, halvings, computing = cell.config, 0, False

    def watch(event: dict[str, Any]) -> None:
        nonlocal computing
        # A run that has its score isn't trained again, whatever becomes of the rest.
        computing = "scored" not in event and (computing or event.get("phase") in ("training", "evaluating"))
        on_event(event)

    while True:
        computing = False
        outcome = process.call(
            "peftbench.run.worker:train",
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
        size = identity.micro_batch_size(config, halvings)
        if outcome.status != "oom" or not computing:
            return outcome
        if size == 1:
            return replace(outcome, error=f"{outcome.error} (with micro batches of 1, the smallest)")
        halvings += 1
        terminal.line(config, f"out of memory with micro batches of {size}: goes on with half of that")


def keep(cell: PreparedRun, store: ResultStore, record: RunRecord) -> RunRecord:
    """Write a run's record, and delete the saved state of a run that has ended.

    Where the disk doesn't take the record, `rescue` keeps it elsewhere and says so: its numbers cost hours.
    """
    if cell.config.tune is not None:
        record = warnings.noted(replace(record, tuning=store.tuning(cell.key)))
    with process.undisturbed():
        try:
            store.put(cell.config, record)
        except OSError as error:
            print(f"peftbench: {terminal.name(cell.config)}: {rescue(record, store, error)}", file=sys.stderr)
            return record
        if record.status in ("completed", *NOT_RETRIED):
            store.forget(cell.key)
    return record


def _scored(cell: PreparedRun, outcome: process_group.Outcome, drafts: list[RunRecord]) -> RunRecord | None:
    """The record of a run that ended without a result and had its score; None: it had none, or goes on for the rest."""
    if not drafts or (outcome.status == "interrupted" and scored.resumable(drafts[0])):
        return None
    rest = ", ".join(scored.outstanding(drafts[0]))
    if rest:
        terminal.line(cell.config, f"had its score; recorded without {rest}: {outcome.error or outcome.status}")
    return scored.settled(drafts[0], outcome.status)


def _failure(cell: PreparedRun, outcome: process_group.Outcome, log: Path, store: ResultStore) -> RunRecord:
    return RunRecord(
        key=cell.key,
        status=outcome.status,
        error=outcome.error,
        config=identity.description(cell.config),
        changed=cell.config.changed,
        environment={"data_fingerprint": cell.source.fingerprint, "model_fingerprint": cell.checkpoint.fingerprint},
        log=os.path.relpath(outcome.log or log, store.root),
        log_tail=process_group.tail(outcome.log or log),
    )
