"""The estimate of runs, in a process of its own: a run's model, method, loss and optimiser without weights or data."""

import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from peftbench.config.identity import micro_batch_size
from peftbench.config.types import ModelConfig, RunConfig
from peftbench.errors import ConfigError, NotApplicable, brief
from peftbench.methods import frozen_weights
from peftbench.methods.base import Context
from peftbench.methods.build import build as build_method
from peftbench.models import backbones, dropout, one_position, parameters, quantization
from peftbench.models.checkpoints import Checkpoint
from peftbench.run.estimate import batches, fakes, on_gpu, packed, shapes
from peftbench.run.estimate.steps import trace
from peftbench.run.estimate.tracker import Footprint
from peftbench.run.training.tuner import FineTuner
from peftbench.system import load
from peftbench.system.process_group import Emit
from peftbench.tasks.base import Task
from peftbench.tasks.table import build as build_task

#: A run's steps, for methods and schedules that plan with them: what is in memory depends on none of it.
_STEPS = 100
#: Weights up to which a model is made at random rather than not at all, for methods that look at them.
SMALL = 150_000_000
#: Runs from which on further processes are worth their start.
_MANY = 8
#: Why a method that meets these is not estimated: by what an error says.
_VALUES = ("meta tensor", "register_meta", "set_data", "_local_scalar_dense", "nonzero", "meta tensors")


@dataclass(frozen=True)
class EstimateRequest:
    """The options of a run's estimate: what is asked beside its memory as it is.

    Attributes:
        length: tokens of an example; None: `recipe.max_length`.
        sizes: further micro batches to look at.
        checkpointing: whether gradient checkpointing is looked at too.
    """

    length: int | None = None
    sizes: tuple[int, ...] = ()
    checkpointing: bool = False


def estimate(runs: list[tuple[RunConfig, dict[str, Any]]], emit: Emit) -> None:
    """Emits {"event": "estimated", "number": n} after each run. At the end {"result": ...}: `cells`, for each run its
    figures, or `refused`, the reason that it can't be estimated, with `wrong`, whether the configuration is; and
    `matrix_flops_per_s` by precision."""
    results = []
    for number, cell in enumerate(_shared_out(runs), 1):
        results.append(cell)
        emit({"event": "estimated", "number": number})
    rates = {precision: matrix_rate(precision) for precision in {config.hardware.precision for config, _ in runs}}
    emit({"result": {"cells": results, "matrix_flops_per_s": rates}})


class _Cells(Dataset[dict[str, Any]]):
    """The estimates of runs, each made when it is asked for."""

    def __init__(self, runs: list[tuple[RunConfig, dict[str, Any]]]) -> None:
        self._runs = runs

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, place: int) -> dict[str, Any]:
        config, wanted = self._runs[place]
        return _cell(config, EstimateRequest(**wanted))


def _shared_out(runs: list[tuple[RunConfig, dict[str, Any]]]) -> Iterable[dict[str, Any]]:
    """The runs' estimates in their order; of many, on all cores."""
    cores = len(load.usable_cores()) if len(runs) >= _MANY else 1
    # Torch's data workers: they end with this process, and what they raise comes back.
    return DataLoader(_Cells(runs), batch_size=None, num_workers=cores if cores > 1 else 0, collate_fn=_unchanged)


def _unchanged(cell: Any) -> Any:
    return cell


def _cell(config: RunConfig, wanted: EstimateRequest) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        tuner, faking, special = build(config)
        own = micro_batch_size(config)
        whole = footprint(config, tuner, faking, wanted, special, examples=own)
        counts = parameters.count(tuner.model, config.model.head)
        stored = sum(p.nbytes for p in tuner.model.parameters() if p.requires_grad)
        others = {str(n): _peak(config, replace(wanted, sizes=()), n) for n in wanted.sizes if n != own}
        saving = None
        if wanted.checkpointing and not config.hardware.gradient_checkpointing:
            saving = _checkpointed(config, wanted)
    except ConfigError as error:
        return {"refused": str(error), "wrong": not isinstance(error, NotApplicable)}
    except Exception as error:  # Torch and peft raise whatever they like; the other runs are estimated.
        return {"refused": _why(config, error), "wrong": False}
    tokens = own * (wanted.length or config.recipe.max_length)
    return {
        "micro_batch_size": own,
        "length": wanted.length or config.recipe.max_length,
        **described(whole),
        "params": counts,
        "stored_bytes": stored,
        "flops_per_token": whole.flops / tokens,
        "other_sizes": {**others, str(own): whole.peak},
        "checkpointed": saving,
        "took_s": time.perf_counter() - started,
    }


def described(whole: Footprint) -> dict[str, Any]:
    """A footprint as JSON."""
    fields = asdict(whole)
    return {"peak_bytes": whole.peak, **{name: fields[name] for name in ("parts", "most", "phases", "where")}}


def _peak(config: RunConfig, wanted: EstimateRequest, examples: int) -> int:
    tuner, faking, special = build(config)
    return footprint(config, tuner, faking, wanted, special, examples=examples).peak


def _checkpointed(config: RunConfig, wanted: EstimateRequest) -> dict[str, int] | None:
    """The peak with gradient checkpointing, by micro batch; None where the method refuses it."""
    hardware = replace(config.hardware, gradient_checkpointing=True)
    with_it = replace(config, hardware=hardware)
    try:
        return {str(n): _peak(with_it, wanted, n) for n in {*wanted.sizes, micro_batch_size(config)}}
    except (NotApplicable, ValueError, RuntimeError):
        return None


def build(config: RunConfig) -> tuple[FineTuner, fakes.Faking, int]:
    """A run's tuner with fake tensors, what they are faked by, and the id of a token that every text has.

    Raises:
        ConfigError: the configuration is wrong; NotApplicable: the method doesn't fit, or trains nothing.
    """
    config = shapes.labelled(config)
    where = f"method={config.method.name} on model={config.model.name}"
    task, method = build_task(config), build_method(config.method)
    if not method.trains:
        raise NotApplicable(f"method={config.method.name}: trains nothing")
    refusal = method.refusal(config)
    if refusal is not None:
        raise NotApplicable(f"{where}: {refusal}")
    shaped = shapes.shaped(config.model)
    tokenizer = backbones.load_tokenizer(shaped, Checkpoint(None, ""))
    task.prepare(tokenizer)
    faking = fakes.Faking(on_gpu.device(config))
    dropout.install_attention()
    model = _base(config, shaped, task)
    special = int(tokenizer.mask_token_id or 0)
    sample = batches.largest(config, task, examples=8, length=min(32, config.recipe.max_length), special=special)
    rows = list if next(model.parameters()).is_meta else lambda: [sample]
    context = Context(config.model, task, _STEPS, config.seed, rows, tokenizer, config.model_root)
    adapted: nn.Module = method.apply(model, context)
    dropout.install(adapted)
    if not method.needs_all_positions(adapted):
        one_position.install(adapted)
    frozen_weights.store(adapted, config, method)
    if quantization.settings(config):
        packed.fill(adapted, faking)
    fakes.fake(adapted, faking)
    tuner = FineTuner(
        adapted.train(),
        task=task,
        method=method,
        recipe=config.recipe,
        micro_batch_size=None,
        total_steps=_STEPS,
        head=config.model.head,
    )
    return tuner, faking, special


def _base(config: RunConfig, shaped: ModelConfig, task: Task) -> nn.Module:
    """The model that a method is applied to: on the meta device, or of random weights where that is small."""
    model: Any = backbones.build_empty(shaped, Checkpoint(None, ""), task)
    backbones.check_length(model, config, task)
    settings = quantization.settings(config)
    if settings:
        model = packed.replace_layers(model, settings)
    elif sum(p.numel() for p in model.parameters()) <= SMALL:
        # What a method makes of the weights' values (ranks, chosen places) it then makes of random ones.
        model = task.auto_model.from_config(backbones.model_config(shaped, Checkpoint(None, ""), task))
    if config.hardware.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return backbones.exact_head(model, config, task).eval()


def footprint(
    config: RunConfig, tuner: FineTuner, faking: fakes.Faking, wanted: EstimateRequest, special: int, *, examples: int
) -> Footprint:
    """The memory that the model takes while it trains in micro batches of `examples`. Where a global batch takes
    several of them, that of two: gradients are there while the second goes forward."""
    config = shapes.labelled(config)
    several = 1 + (examples < -(-config.recipe.batch_size // config.hardware.devices))
    tuner.micro_batch_size = examples if several > 1 else None
    length = wanted.length or config.recipe.max_length
    batch = batches.largest(config, tuner.task, examples=several * examples, length=length, special=special)
    with on_gpu.kernels(config):
        return trace(tuner, batch, precision=lambda: precision(config), faking=faking, steps=2)


def precision(config: RunConfig) -> AbstractContextManager[Any]:
    """The run's autocast, as Lightning enters it."""
    if config.hardware.precision == "32-true":
        return nullcontext()
    return torch.autocast(on_gpu.device(config).partition(":")[0], dtype=torch.bfloat16)


def _why(config: RunConfig, error: Exception) -> str:
    reason = brief(error)
    if looks_at_values(error):
        reason = "it looks at its weights' values, which aren't there"
    return f"method={config.method.name} on model={config.model.name}: {reason}"


def looks_at_values(error: Exception) -> bool:
    """True if an error is that of a method which looks at the values of weights that have none."""
    return any(sign in f"{type(error).__name__} {error}" for sign in _VALUES)


def matrix_rate(kind: str) -> float:
    """Floating point operations a second of this process's matrix products: the best of some of 1024 x 1024."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    one = torch.randn(1024, 1024, device=device, dtype=torch.float32 if kind == "32-true" else torch.bfloat16)
    best = float("inf")
    for _ in range(12):
        start = time.perf_counter()
        product = one @ one
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
        del product
    return 2 * 1024**3 / best
