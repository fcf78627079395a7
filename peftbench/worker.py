"""What runs in a fresh process: one training run, or the check of adapters before any training."""

from pathlib import Path

from peftbench import backbones, loggers, optim, tasks
from peftbench.checkpoints import Checkpoint
from peftbench.errors import ConfigError
from peftbench.job import Cell
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.run import Emit, Job, run
from peftbench.schema import RunConfig
from peftbench.store import Places


def train(cell: Cell, places: Places, log_folder: Path, emit: Emit) -> None:
    """A run: its record goes out before the sinks are closed, which may hang or fail."""
    sinks = loggers.build(cell.config, cell.key, log_folder)
    record = run(Job(cell.config, cell.key, cell.source, cell.checkpoint, places, sinks, emit))
    emit({"result": record.to_dict()})
    loggers.finish(sinks, record)


def verify(cells: list[tuple[RunConfig, Checkpoint]], emit: Emit) -> None:
    """Try every method on its model's shape, without weights. Result: for each cell what is wrong, or None."""
    emit({"result": [_problem(config, checkpoint) for config, checkpoint in cells]})


def _problem(config: RunConfig, checkpoint: Checkpoint) -> str | None:
    try:
        task = tasks.build(config)
        method = build_method(config.method)
        if config.method.lr is not None:
            optim.factory(config.recipe, config.method.lr)
        loggers.check(config)
        refusal = method.refusal(config.model)
        if refusal is not None:
            return f"method={config.method.name}: {refusal}"
        if method.trains:
            context = Context(config.model, task, 100, config.seed, list)
            method.apply(backbones.build_empty(config.model, checkpoint, task), context)
    except ConfigError as error:
        return str(error)
    return None
