"""Training steps under the tracker: of a run's own model, or of one without weights."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from peftbench.data.batch import Batch
from peftbench.run.estimate.tracker import BACKWARD, FORWARD, STEP, Footprint, Tracker
from peftbench.run.training.tuner import FineTuner

#: Steps of a measurement. The first makes the optimiser's state, the second is the first with all of it.
STEPS = 3

Precision = Callable[[], AbstractContextManager[Any]]


def trace(
    tuner: FineTuner,
    batch: Batch,
    *,
    precision: Precision,
    faking: AbstractContextManager[Any] | None = None,
    steps: int = STEPS,
    rate: float | None = None,
) -> Footprint:
    """Make training steps on a batch, and say what was in memory.

    Args:
        precision: entered around each step (autocast), as Lightning does.
        faking: what makes operations run on tensors without data; None: they are computed.
        steps: two at least, for the optimiser's state to be there throughout one.
        rate: the learning rate; None: the run's.
    """
    with faking or nullcontext(), Tracker() as tracker:
        tracker.declare(_trained(tuner.model), "weights_trained")
        tracker.declare(_held(tuner.model), "weights_frozen")
        tracker.declare(batch.values(), "activations")
        [optimizer], _ = tuner.configure_optimizers()
        for group in optimizer.param_groups if rate is not None else []:
            group["lr"] = rate
        callbacks = tuner.method.callbacks()
        for number in range(steps):
            _callbacks(callbacks, "on_train_batch_start", number, batch)
            with precision():
                _step(tuner, optimizer, batch, tracker)
            _callbacks(callbacks, "on_train_batch_end", number + 1, batch)
        optimizer.zero_grad()
        return tracker.footprint(steps)


def _step(tuner: FineTuner, optimizer: torch.optim.Optimizer, batch: Batch, tracker: Tracker) -> None:
    """One step, as `FineTuner.training_step` makes it, in its phases."""

    def backward(loss: torch.Tensor) -> None:
        tracker.enter(BACKWARD)
        loss.backward()
        tracker.declare(_gradients(tuner.model), "gradients")
        tracker.enter(FORWARD)

    optimizer.zero_grad()
    tracker.enter(FORWARD)
    tuner.accumulate(batch, backward)
    tracker.enter(STEP)
    tuner.clip(optimizer)
    optimizer.step()
    tracker.declare(_tensors(list(optimizer.state.values())), "optimizer")


def _callbacks(callbacks: Iterable[Any], name: str, step: int, batch: Batch) -> None:
    trainer: Any = SimpleNamespace(global_step=step)
    for callback in callbacks:
        arguments = (trainer, None, batch, 0) if name.endswith("start") else (trainer, None, None, batch, 0)
        getattr(callback, name)(*arguments)


def _trained(model: nn.Module) -> list[torch.Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def _gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def _held(model: nn.Module) -> list[torch.Tensor]:
    """All that a model's modules hold but for its trained weights: parameters, buffers, other tensors, and of packed
    weights their scales."""
    tensors: list[torch.Tensor] = []
    for module in model.modules():
        tensors += _tensors(list(vars(module).values()))
    packed = [state for t in tensors if (state := getattr(t, "quant_state", None)) is not None]
    return [*tensors, *(t for state in packed for t in scales(state))]


def scales(state: Any) -> list[torch.Tensor]:
    """The tensors of a 4-bit weight's `quant_state`: its code book and scales, which may be packed themselves."""
    return [t for t in _tensors(list(vars(state).values())) if isinstance(t, torch.Tensor)] + (
        scales(state.state2) if getattr(state, "nested", False) else []
    )


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in nested lists and dicts."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [t for part in value for t in _tensors(part)]
    return []
