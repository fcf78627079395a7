"""Memory by part, measured on a run's own model: what `estimate` says beforehand, beside it in the record."""

import logging
from typing import Any

import torch

from peftbench import errors
from peftbench.data.batch import Batch, moved
from peftbench.data.datamodule import TaskDataModule
from peftbench.results import scored
from peftbench.run.context import RunContext
from peftbench.run.estimate.steps import trace
from peftbench.run.estimate.tracker import Footprint
from peftbench.run.training.tuner import FineTuner
from peftbench.system import stop

#: Steps that are made: the second is the first with all of the optimiser's state, and a third shows no more (tested for
#: every method against the three of an estimate).
_STEPS = 2
#: The figures that are added to a record's `efficiency`.
FIGURES = ("memory_parts_bytes", "memory_length", "flops_per_token")


def measure(
    context: RunContext, tuner: FineTuner, data: TaskDataModule, trainer: Any, *, train_s: float | None
) -> tuple[dict[str, Any], list[str]]:
    """`memory_parts_bytes` at the peak of some steps, `memory_length`, the tokens of their examples, and
    `flops_per_token`; or nulls and a footnote that says why. The steps change no weight or random state.

    Nothing here may cost the score: not a want of memory, not a stop.

    Args:
        train_s: seconds that training took; with steps that would take longer than `measure_s` nothing is measured.
    """
    nothing, config = dict.fromkeys(FIGURES, None), context.config
    if not tuner.method.trains or config.hardware.devices > 1:
        return nothing, []
    context.emit({"event": "phase", "phase": "measuring memory"})
    try:
        stop.check()
        if _STEPS * (train_s or 0.0) > config.measure_s * tuner.total_steps:
            return nothing, [scored.unmeasured(config.method.name, scored.MEMORY, f"measure_s={config.measure_s:g}")]
        batch = moved(_longest(data, config.recipe.batch_size), tuner.device)
        whole, extra = _traced(tuner, batch, trainer)
    except errors.Interrupted:
        why = "interrupted"
    except Exception as error:
        logging.getLogger(__name__).exception("memory by part")
        why = type(error).__name__
    else:
        tokens = sum(batch[name].numel() for name in ("input_ids", "targets") if name in batch)
        width = max(batch[name].shape[1] for name in ("input_ids", "targets") if name in batch)
        return {
            "memory_parts_bytes": {**whole.parts, **extra},
            "memory_length": width,
            "flops_per_token": whole.flops / tokens,
        }, []
    return nothing, [scored.unmeasured(config.method.name, scored.MEMORY, why)]


def _longest(data: TaskDataModule, count: int) -> Batch:
    """The batch of the longest training examples: no batch of training takes more memory."""
    order = data.train.lengths.argsort(descending=True, stable=True)
    return data.train.collate(order[:count].tolist())


def _traced(tuner: FineTuner, batch: Batch, trainer: Any) -> tuple[Footprint, dict[str, int]]:
    """The footprint of steps at rate zero, and on CUDA what tensors don't show: `cuda_context` and `workspace`."""
    trainer.strategy.optimizers = []  # Their state would be there twice.
    tuner.model.train()
    cuda = tuner.device.type == "cuda"
    with torch.random.fork_rng(devices=[tuner.device] if cuda else []):
        if not cuda:
            return trace(tuner, batch, precision=trainer.precision_plugin.forward_context, steps=_STEPS, rate=0.0), {}
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        whole = trace(tuner, batch, precision=trainer.precision_plugin.forward_context, steps=_STEPS, rate=0.0)
        free, total = torch.cuda.mem_get_info()
        held = whole.parts["weights_frozen"] + whole.parts["weights_trained"]
        beside = torch.cuda.max_memory_allocated() - before - (whole.peak - held)
        context = total - free - torch.cuda.memory_reserved()
        return whole, {"cuda_context": max(0, context), "workspace": max(0, beside)}
