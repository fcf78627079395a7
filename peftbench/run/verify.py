"""The check before anything is trained (preflight): optimiser, sinks, the adapter's fit to the model, lengths."""

from pathlib import Path

import torch
from torch import nn

from peftbench.config.hosted import HOSTED
from peftbench.config.types import RecipeConfig, RunConfig
from peftbench.data.batch import Batch
from peftbench.data.forgetting import check as check_benchmarks
from peftbench.data.sources import DataSource
from peftbench.errors import ConfigError, NotApplicable, brief, first_line
from peftbench.methods import frozen_weights
from peftbench.methods.base import Context, Method
from peftbench.methods.build import build as build_method
from peftbench.models import backbones, quantization
from peftbench.models.checkpoints import Checkpoint
from peftbench.run import lengths, start_from
from peftbench.run.hosted import check as hosted
from peftbench.run.training import optimizer, sharding, sinks
from peftbench.run.training.trainer import validates
from peftbench.system import ranks
from peftbench.system.process_group import Emit
from peftbench.tasks.table import build as build_task

#: What is wrong with a run in one line, and whether its method can't be applied there (`NotApplicable`).
Problem = tuple[str, bool]


def verify(cells: list[tuple[RunConfig, Checkpoint]], data: list[tuple[DataSource, Path]], emit: Emit) -> None:
    """Try every method on the shapes of its model, without weights. Emits {"result": for each cell `Problem` or null}.

    Args:
        data: for each cell its rows and the cache folder; empty: whether examples fit into the model isn't checked.
    """
    problems = [problem_with(config, checkpoint) for config, checkpoint in cells]
    fitting: set[str] = set()
    for index, (source, cache) in enumerate(data):
        if problems[index] is None:
            problems[index] = _too_long(*cells[index], source, cache, fitting)
    emit({"result": problems})


def problem_with(config: RunConfig, checkpoint: Checkpoint) -> Problem | None:
    """The problem that a run has, whatever its examples are."""
    try:
        _check(config, checkpoint)
    except ConfigError as error:
        return str(error), isinstance(error, NotApplicable)
    except Exception as error:  # Whatever it is, it must name the run that it would have stopped.
        where = f"method={config.method.name} on model={config.model.name}, dataset={config.dataset.name}"
        return str(ConfigError(f"{where}: {type(error).__name__}: {brief(error)}")), False
    return None


def _too_long(
    config: RunConfig, checkpoint: Checkpoint, source: DataSource, cache: Path, fitting: set[str]
) -> Problem | None:
    """The problem of a run whose examples are too long for the model.

    Args:
        fitting: describes the examples, model and recipe of runs that were found to fit, whatever their method; gets
            this run's if it fits.
    """
    if config.model.family == HOSTED:  # The server's own tokenizer decides that.
        return None
    task = build_task(config)
    examined = repr((task.formulation, config.model, config.dataset, config.recipe))
    if examined in fitting:
        return None
    tokenizer = backbones.load_tokenizer(config.model, checkpoint)
    try:
        lengths.check(config, task, tokenizer, source, cache)
    except ConfigError as error:
        return str(error), False
    fitting.add(examined)
    return None


def _check(config: RunConfig, checkpoint: Checkpoint) -> None:
    """Raises ConfigError or whatever a library raises: the first thing that would stop the run."""
    hosted.check_family(config)
    if config.model.family == HOSTED:
        hosted.check(config)
        return
    if config.hardware.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("hardware.accelerator=gpu: torch finds no CUDA device here; hardware=cpu runs without")
    present, devices = torch.cuda.device_count(), config.hardware.devices
    if config.hardware.accelerator != "cpu" and present and devices > present:
        raise ConfigError(f"hardware.devices={devices}: torch finds {present} CUDA devices here")
    if config.recipe.patience is not None and not validates(config):
        raise ConfigError(
            f"recipe.patience={config.recipe.patience}: nothing is evaluated in training to wait for; it goes with "
            "several epochs, recipe.eval_steps or recipe.max_steps, and not with recipe.selection=last"
        )
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
        context = Context(config.model, task, 100, config.seed, list, tokenizer, config.model_root)
        _try_on(method, model, context, config)


def _try_optimizer(recipe: RecipeConfig, lr: float, *, sharded: bool) -> None:
    """Raises ConfigError as `optimizer.factory` will in the run."""
    if not sharded:
        optimizer.factory(recipe, lr)
        return
    with ranks.alone():
        optimizer.factory(recipe, lr, sharding.mesh())


def _try_on(method: Method, model: nn.Module, context: Context, config: RunConfig) -> None:
    """Apply a method to a model on the meta device, and call it once on an empty batch: shapes alone show most misfits.

    Raises:
        NotApplicable: it can't be called or rounded (`model.dtype`); ConfigError: as the method says.
    """
    try:
        adapted = method.apply(model, context)
        frozen_weights.store(adapted, config, method)
        try:
            with torch.no_grad():
                adapted.eval()(**method.prepare_batch(context.task.inputs(_placeholder(model))))
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            where = f"method={method.config.name} on model={context.model.name}"
            raise NotApplicable(f"{where}: {first_line(error)}") from error
    except (ConfigError, RuntimeError, NotImplementedError) as error:
        # Methods that compute with the weights first (PiSSA) can't be tried without any: that is no misfit.
        if not any(sign in f"{error} {error.__cause__}" for sign in ("meta", "variable.set_data")):
            raise


def _placeholder(model: nn.Module) -> Batch:
    """A batch of two examples: ids, mask and targets (2, 8), labels and index (2,), on the model's device."""
    device = next(model.parameters()).device
    ids = torch.ones(2, 8, dtype=torch.long, device=device)
    labels = torch.zeros(2, dtype=torch.long, device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "index": labels, "targets": ids}
