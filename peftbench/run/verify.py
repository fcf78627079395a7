"""The check of a run before anything is trained: adapters' arguments, their fit to the model, sinks."""

from pathlib import Path

import torch
from torch import nn

from peftbench.config.types import RecipeConfig, RunConfig
from peftbench.data.batch import Batch
from peftbench.data.forgetting import check as check_benchmarks
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError, NotApplicable, brief
from peftbench.methods.base import Context, Method
from peftbench.methods.build import build as build_method
from peftbench.models import backbones, quantization
from peftbench.models.checkpoints import Checkpoint
from peftbench.run import start_from
from peftbench.run.training import optimizer, sharding, sinks
from peftbench.run.worker import _too_long
from peftbench.system import ranks
from peftbench.system.process_group import Emit
from peftbench.tasks.table import build as build_task


def verify(cells: list[tuple[RunConfig, Checkpoint]], data: list[tuple[DataSource, Path]], emit: Emit) -> None:
    """Try every method on its model's shape, without weights. Result: for each cell None, or what is wrong and whether
    that is because the method can't be applied there.

    Args:
        data: of every cell where its rows are, and the cache; empty: whether they fit isn't looked at.
    """
    problems = [problem_with(config, checkpoint) for config, checkpoint in cells]
    fitting: set[str] = set()
    for index, (source, cache) in enumerate(data):
        if problems[index] is None:
            problems[index] = _too_long(*cells[index], source, cache, fitting)
    emit({"result": problems})


def problem_with(config: RunConfig, checkpoint: Checkpoint) -> tuple[str, bool] | None:
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
    task, method = build_task(config), build_method(config.method)
    check_benchmarks(config, task.formulation)
    if config.method.lr is not None:
        _try_optimizer(config.recipe, config.method.lr, sharded=config.hardware.strategy == "fsdp")
    sinks.check(config)
    refusal = method.refusal(config)
    if refusal is not None:
        raise NotApplicable(f"method={config.method.name} on model={config.model.name}: {refusal}")
    packed = quantization.settings(config)
    if packed and checkpoint.start is not None:
        raise NotApplicable(f"start_from: not with method={config.method.name}, whose base is packed")
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    task.prepare(tokenizer)
    model = backbones.build_empty(config.model, checkpoint, task)
    backbones.check_length(model, config, task)
    start_from.check(model, config, checkpoint, task)
    if method.trains:
        _try_on(method, model, Context(config.model, task, 100, config.seed, list, tokenizer, config.model_root))


def _try_optimizer(recipe: RecipeConfig, lr: float, *, sharded: bool) -> None:
    """Raises ConfigError as `optim.factory` will in the run."""
    if not sharded:
        optimizer.factory(recipe, lr)
        return
    with ranks.alone():
        optimizer.factory(recipe, lr, sharding.mesh())


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
