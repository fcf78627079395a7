"""What runs in a fresh process: one training run, or the check of adapters before any training."""

import contextlib
from dataclasses import replace
from pathlib import Path

import torch

from peftbench.config import identity
from peftbench.config.types import RunConfig
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError
from peftbench.models import backbones
from peftbench.models.checkpoints import Checkpoint
from peftbench.results.records import RunRecord
from peftbench.results.store import Places, write_ended
from peftbench.run import lengths
from peftbench.run.context import RunContext
from peftbench.run.prepared import PreparedRun
from peftbench.run.run import run
from peftbench.run.training.sinks import build as build_sinks
from peftbench.run.training.sinks import finish as finish_sinks
from peftbench.system import files, ranks, stop
from peftbench.system.process_group import Emit
from peftbench.tasks.table import build as build_task


def train(cell: PreparedRun, places: Places, log_folder: Path, log: str, halvings: int, emit: Emit) -> None:
    """A run: its record goes out before the sinks are closed, which may hang or fail.

    Args:
        log: the run's log as its record names it.
        halvings: how often memory ran out before.
    """
    config = identity.halved(cell.config, halvings)
    on_gpus = config.hardware.accelerator != "cpu" and torch.cuda.is_available()
    ranks.join(config.hardware.devices, cuda=on_gpus)
    with files.owned(places.unfinished) if ranks.is_first() else contextlib.nullcontext():
        ranks.barrier()
        sinks = build_sinks(config, cell.key, log_folder) if ranks.is_first() else []
        sizes = {"micro_batch_size": identity.micro_batch_size(config), "oom_halvings": halvings}

        def whole(record: RunRecord) -> RunRecord:
            return replace(
                record,
                config=identity.description(cell.config),
                efficiency={**(record.efficiency or {}), **sizes},
                footnotes=[*record.footnotes, *_smaller(cell.config, halvings)],
                log=log,
            )

        def keep(record: RunRecord) -> None:
            write_ended(places.unfinished, whole(record))
            emit({"scored": whole(record).to_dict()})

        sources = (cell.source, cell.checkpoint)
        found = run(RunContext(config, cell.key, *sources, places, sinks, emit, cell.questions, cell.judge, keep))
        if found is None:
            emit({"done": True})
            return
        with stop.deferred():
            record = whole(found)
            write_ended(places.unfinished, record)
            emit({"result": record.to_dict()})
        finish_sinks(sinks, record)


def _smaller(config: RunConfig, halvings: int) -> list[str]:
    if not halvings:
        return []
    asked, used = (identity.micro_batch_size(config, n) for n in (0, halvings))
    return [f"{config.method.name}: memory ran out with micro batches of {asked}; trained in micro batches of {used}"]


def _too_long(
    config: RunConfig, checkpoint: Checkpoint, source: DataSource, cache: Path, fitting: set[str]
) -> tuple[str, bool] | None:
    """What `_problem` gives, for examples that are too long.

    Args:
        fitting: what was looked at before and fits, whatever the method.
    """
    task = build_task(config)
    looked_at = repr((task.formulation, config.model, config.dataset, config.recipe))
    if looked_at in fitting:
        return None
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    try:
        lengths.check(config, task, tokenizer, source, cache)
    except ConfigError as error:
        return str(error), False
    fitting.add(looked_at)
    return None
