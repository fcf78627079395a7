"""What runs in a fresh process: one training run, or the check of adapters before any training."""

from pathlib import Path

import torch
from torch import nn

from peftbench import backbones, loggers, optim, tasks
from peftbench.checkpoints import Checkpoint
from peftbench.errors import ConfigError
from peftbench.job import Cell
from peftbench.methods.base import Context, Method
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
        _check(config, checkpoint)
    except ConfigError as error:
        return str(error)
    except Exception as error:  # Whatever it is, it must name the run that it would have stopped.
        where = f"method={config.method.name} on model={config.model.name}, dataset={config.dataset.name}"
        return str(ConfigError(f"{where}: {type(error).__name__}: {error}"))
    return None


def _check(config: RunConfig, checkpoint: Checkpoint) -> None:
    if config.hardware.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("hardware.accelerator=gpu: torch finds no CUDA device here; hardware=cpu runs without")
    task, method = tasks.build(config), build_method(config.method)
    if config.method.lr is not None:
        optim.factory(config.recipe, config.method.lr)
    loggers.check(config)
    refusal = method.refusal(config.model)
    if refusal is not None:
        raise ConfigError(f"method={config.method.name}: {refusal}")
    backbones.load_tokenizer(config.model, checkpoint)
    model = backbones.build_empty(config.model, checkpoint, task)
    backbones.check_length(model, config)
    if method.trains:
        _try_on(method, model, Context(config.model, task, 100, config.seed, list))


def _try_on(method: Method, model: nn.Module, context: Context) -> None:
    """Apply a method to a model without weights. Some look at the weights first (PiSSA): those can't be tried here."""
    try:
        method.apply(model, context)
    except (ConfigError, RuntimeError, NotImplementedError) as error:
        if "meta" not in f"{error} {error.__cause__}":
            raise
