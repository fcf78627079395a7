"""One run in a fresh process: what the command line starts by the name of `train`."""

import contextlib
from dataclasses import replace
from pathlib import Path

import torch

from peftbench.config import identity
from peftbench.config.hosted import HOSTED
from peftbench.config.types import RunConfig
from peftbench.errors import Pruned
from peftbench.results.records import RunRecord
from peftbench.results.store import Places, write_ended
from peftbench.run.context import RunContext
from peftbench.run.prepared import PreparedRun
from peftbench.run.run import fingerprints, run
from peftbench.run.training import sinks as loggers
from peftbench.run.training.halving import record as halving_record
from peftbench.system import files, process_child, ranks, stop
from peftbench.system.process_group import Emit


def train(prepared: PreparedRun, places: Places, log_folder: Path, log: str, halvings: int, emit: Emit) -> None:
    """Make a run and emit its record: before the sinks are closed, which may hang or fail.

    Args:
        log_folder: where sinks write.
        log: the name of the run's log in its record.
        halvings: how often the run was out of memory before; the micro batch is halved as often.
        emit: gets {"scored": record} each time that a record is kept, {"result": record} at the end, and {"done": true}
            from ranks behind the first.
    """
    config = identity.halved(prepared.config, halvings)
    on_gpus = config.hardware.accelerator != "cpu" and torch.cuda.is_available()
    ranks.join(config.hardware.devices, cuda=on_gpus)
    with files.owned(places.unfinished) if ranks.is_first() else contextlib.nullcontext():
        ranks.barrier()
        sinks = loggers.build(config, prepared.key, log_folder) if ranks.is_first() else []
        sizes = {"micro_batch_size": identity.micro_batch_size(config), "oom_halvings": halvings}
        here = config.model.family != HOSTED
        make = run if here else _run_hosted

        def as_configured(record: RunRecord) -> RunRecord:
            """The record of the run that was asked for, with a footnote where it took smaller micro batches."""
            return replace(
                record,
                config=identity.description(prepared.config),
                efficiency={**(record.efficiency or {}), **(sizes if here else {})},
                footnotes=[*record.footnotes, *_smaller(prepared.config, halvings)],
                log=log,
            )

        def keep(record: RunRecord) -> None:
            write_ended(places.unfinished, as_configured(record))
            emit({"scored": as_configured(record).to_dict()})

        try:
            finished = make(RunContext(replace(prepared, config=config), places, sinks, emit, keep))
        except Pruned as pruned:
            finished = _pruned(prepared, pruned) if ranks.is_first() else None
        except BaseException as error:
            status = process_child.status_of(error)
            loggers.finish(sinks, loggers.Ending(status, error=process_child.in_one_line(error)))
            raise
        if finished is None:
            emit({"done": True})
            return
        with stop.deferred():
            record = as_configured(finished)
            write_ended(places.unfinished, record)
            emit({"result": record.to_dict()})
        loggers.finish(sinks, loggers.Ending(record.status, record, places=places))


def _pruned(prepared: PreparedRun, pruned: Pruned) -> RunRecord:
    """The record of a trial that was ended early: no score, for nothing was evaluated but what it was ended by."""
    return RunRecord(
        key=prepared.key,
        status="pruned",
        error=str(pruned),
        config=identity.description(prepared.config),
        changed=prepared.config.changed,
        halving=halving_record(pruned.scores),
        environment=fingerprints(prepared),
    )


def _run_hosted(context: RunContext) -> RunRecord:
    """Make a run whose model is behind a server."""
    from peftbench.run.hosted.run import run as run_hosted  # It needs an extra.

    return run_hosted(context)


def _smaller(config: RunConfig, halvings: int) -> list[str]:
    """A footnote where memory ran out, else none."""
    if not halvings:
        return []
    asked, used = (identity.micro_batch_size(config, n) for n in (0, halvings))
    return [f"{config.method.name}: memory ran out with micro batches of {asked}; trained in micro batches of {used}"]
