"""What runs in a fresh process: one training run, or the check of adapters before any training."""

import contextlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from peftbench import (
    backbones,
    benchmarks,
    files,
    loggers,
    optim,
    quantize,
    ranks,
    schema,
    sharding,
    start,
    stop,
    tasks,
)
from peftbench.checkpoints import Checkpoint
from peftbench.crew import Emit
from peftbench.data import lengths
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError, NotApplicable, brief
from peftbench.job import Cell
from peftbench.methods.base import Context, Method
from peftbench.methods.build import build as build_method
from peftbench.records import RunRecord
from peftbench.run import Job, run
from peftbench.schema import RecipeConfig, RunConfig
from peftbench.store import Places, write_ended
from peftbench.tasks.base import Batch


def train(cell: Cell, places: Places, log_folder: Path, log: str, halvings: int, emit: Emit) -> None:
    """A run: its record goes out before the sinks are closed, which may hang or fail.

    Args:
        log: the run's log as its record names it.
        halvings: how often memory ran out before.
    """
    config = schema.halved(cell.config, halvings)
    ranks.join(config.hardware)
    with files.owned(places.unfinished) if ranks.is_first() else contextlib.nullcontext():
        ranks.barrier()
        sinks = loggers.build(config, cell.key, log_folder) if ranks.is_first() else []
        sizes = {"micro_batch_size": schema.micro_batch_size(config), "oom_halvings": halvings}

        def whole(record: RunRecord) -> RunRecord:
            return replace(
                record,
                config=schema.description(cell.config),
                efficiency={**(record.efficiency or {}), **sizes},
                footnotes=[*record.footnotes, *_smaller(cell.config, halvings)],
                log=log,
            )

        def keep(record: RunRecord) -> None:
            write_ended(places.unfinished, whole(record))
            emit({"scored": whole(record).to_dict()})

        sources = (cell.source, cell.checkpoint)
        found = run(Job(config, cell.key, *sources, places, sinks, emit, cell.questions, cell.judge, keep))
        if found is None:
            emit({"done": True})
            return
        with stop.deferred():
            record = whole(found)
            write_ended(places.unfinished, record)
            emit({"result": record.to_dict()})
        loggers.finish(sinks, record)


def _smaller(config: RunConfig, halvings: int) -> list[str]:
    if not halvings:
        return []
    asked, used = (schema.micro_batch_size(config, n) for n in (0, halvings))
    return [f"{config.method.name}: memory ran out with micro batches of {asked}; trained in micro batches of {used}"]


def verify(cells: list[tuple[RunConfig, Checkpoint]], data: list[tuple[DataSource, Path]], emit: Emit) -> None:
    """Try every method on its model's shape, without weights. Result: for each cell None, or what is wrong and whether
    that is because the method can't be applied there.

    Args:
        data: of every cell where its rows are, and the cache; empty: whether they fit isn't looked at.
    """
    problems = [_problem(config, checkpoint) for config, checkpoint in cells]
    fitting: set[str] = set()
    for index, (source, cache) in enumerate(data):
        if problems[index] is None:
            problems[index] = _too_long(*cells[index], source, cache, fitting)
    emit({"result": problems})


def _too_long(
    config: RunConfig, checkpoint: Checkpoint, source: DataSource, cache: Path, fitting: set[str]
) -> tuple[str, bool] | None:
    """What `_problem` gives, for examples that are too long.

    Args:
        fitting: what was looked at before and fits, whatever the method.
    """
    task = tasks.build(config)
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


def _problem(config: RunConfig, checkpoint: Checkpoint) -> tuple[str, bool] | None:
    try:
        _check(config, checkpoint)
    except ConfigError as error:
        return str(error), isinstance(error, NotApplicable)
    except Exception as error:  # Whatever it is, it must name the run that it would have stopped.
        where = f"method={config.method.name} on model={config.model.name}, dataset={config.dataset.name}"
        return str(ConfigError(f"{where}: {type(error).__name__}: {brief(error)}")), False
    return None


def _check(config: RunConfig, checkpoint: Checkpoint) -> None:
    if config.hardware.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("hardware.accelerator=gpu: torch finds no CUDA device here; hardware=cpu runs without")
    found, devices = torch.cuda.device_count(), config.hardware.devices
    if config.hardware.accelerator != "cpu" and found and devices > found:
        raise ConfigError(f"hardware.devices={devices}: torch finds {found} CUDA devices here")
    task, method = tasks.build(config), build_method(config.method)
    benchmarks.check(config, task.formulation)
    if config.method.lr is not None:
        _try_optimizer(config.recipe, config.method.lr, sharded=config.hardware.strategy == "fsdp")
    loggers.check(config)
    refusal = method.refusal(config)
    if refusal is not None:
        raise NotApplicable(f"method={config.method.name} on model={config.model.name}: {refusal}")
    packed = quantize.settings(config)
    if packed and checkpoint.start is not None:
        raise NotApplicable(f"start_from: not with method={config.method.name}, whose base is packed")
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    task.prepare(tokenizer)
    model = backbones.build_empty(config.model, checkpoint, task)
    backbones.check_length(model, config, task)
    start.check(model, config, checkpoint, task)
    if method.trains:
        _try_on(method, model, Context(config.model, task, 100, config.seed, list, tokenizer, config.model_root))


def _try_optimizer(recipe: RecipeConfig, lr: float, *, sharded: bool) -> None:
    """Raises ConfigError as `optim.factory` will in the run."""
    if not sharded:
        optim.factory(recipe, lr)
        return
    with ranks.alone():
        optim.factory(recipe, lr, sharding.mesh())


def _try_on(method: Method, model: nn.Module, context: Context) -> None:
    """Apply a method to a model without weights, and run it once on nothing: shapes alone show most misfits. What looks
    at the weights first (PiSSA) can't be tried so."""
    try:
        adapted = method.apply(model, context)
        try:
            with torch.no_grad():
                adapted.eval()(**method.prepare_batch(context.task.inputs(_nothing(model))))
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            where = f"method={method.config.name} on model={context.model.name}"
            raise NotApplicable(f"{where}: {str(error).splitlines()[0]}") from error
    except (ConfigError, RuntimeError, NotImplementedError) as error:
        if not any(sign in f"{error} {error.__cause__}" for sign in ("meta", "variable.set_data")):
            raise


def _nothing(model: nn.Module) -> Batch:
    """Two examples of eight tokens on the model's device, their answers as long."""
    device = next(model.parameters()).device
    ids = torch.ones(2, 8, dtype=torch.long, device=device)
    labels = torch.zeros(2, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "index": labels, "targets": ids}
