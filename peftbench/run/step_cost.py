"""What a training step costs, in forward passes of the plain base over the same batches: a figure that holds on any
machine, unlike samples a second."""

import logging
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import nn

from peftbench import errors
from peftbench.data.batch import Batch, moved
from peftbench.data.datamodule import TaskDataModule
from peftbench.results import scored
from peftbench.run.training.lightning_compat import connect
from peftbench.run.training.tuner import FineTuner
from peftbench.system import limit, stop

#: Steps that are measured, and those before that warm up, uncounted: the same model has just been trained and asked.
_STEPS, _WARM_UP = 20, 1
#: Of a time that is over too soon, the steps that are enough; and those that are once a part of the time has gone by.
_ENOUGH, _PLENTY = 5, 7


#: What it is called in footnotes.
_NAME = "a training step beside the base's forward pass"
#: Its share of `measure_s`, which it gets besides inference speed: twenty steps of a large model take minutes.
_SHARE = 1 / 4
#: The part of that time after which `_PLENTY` steps will do: a median of seven is nearly that of twenty.
_SOON = 1 / 2


def added(
    tuner: FineTuner, base: nn.Module, data: TaskDataModule, trainer: L.Trainer
) -> tuple[dict[str, float | None], list[str]]:
    """The figure by its name in a record's `efficiency`, and a footnote where it couldn't be had. None without one
    where there is no such step: nothing is trained, or several devices shared it.

    Raises:
        errors.Interrupted: the process was asked to stop (SIGTERM) meanwhile.
    """
    config = data.config
    if not tuner.method.trains or config.hardware.devices > 1:
        return {scored.STEP: None}, []
    cost, allowed_s = None, config.measure_s * _SHARE
    why = f"measure_s={config.measure_s:g} allowed too few steps"
    try:
        connect(trainer, tuner)  # The run may have been stopped after its last step: this process then didn't train.
        cost = measure(tuner, base, data, precision=trainer.precision_plugin.forward_context, allowed_s=allowed_s)
    except errors.Interrupted:
        raise
    except Exception as error:  # Whatever a method or its optimiser doesn't bear costs this figure alone.
        logging.getLogger(__name__).exception(_NAME)
        why = type(error).__name__
    return {scored.STEP: cost}, [] if cost is not None else [scored.unmeasured(config.method.name, _NAME, why)]


def measure(
    tuner: FineTuner,
    base: nn.Module,
    data: TaskDataModule,
    *,
    precision: Callable[[], AbstractContextManager[Any]],
    allowed_s: float,
) -> float | None:
    """The median over the run's first batches of seconds of a step / seconds of the base's forward pass, the two in
    turns; None where time was over too soon.

    A step is forward, loss, backward, clipping and optimiser, as in training; what a method's callbacks do between
    steps is left out, as is loading. The base computes the same micro batches in evaluation mode, without gradients.
    The steps change the model's weights: nothing that counts may come after.

    Args:
        base: a fresh model, on any device.
        precision: entered around all of it (autocast).
        allowed_s: when to stop, in seconds from now.
    """
    if allowed_s <= 0:
        return None
    start = time.monotonic()
    (optimizer,), (scheduler,) = tuner.configure_optimizers()
    model, base = tuner.model.train(), base.to(tuner.device).eval()
    ratios: list[float] = []

    def forward(batch: Batch) -> None:
        with torch.inference_mode():
            for micro, _ in tuner.micro_batches(batch):
                base(**tuner.task.inputs(micro))

    with limit.until(start + allowed_s), precision():
        for number, batch in enumerate(islice(data.train_dataloader(_WARM_UP + _STEPS), _WARM_UP + _STEPS)):
            stop.check()  # A library may have swallowed what the handler of SIGTERM raised.
            here = moved(batch, tuner.device)
            step_s = _seconds(lambda: tuner.step(here, optimizer, scheduler))  # noqa: B023
            base_s = _seconds(lambda: forward(here))  # noqa: B023
            if number >= _WARM_UP:
                ratios.append(step_s / base_s)
            if len(ratios) >= _PLENTY and time.monotonic() - start > allowed_s * _SOON:
                break
    model.eval()
    return statistics.median(ratios) if len(ratios) >= _ENOUGH else None


def _seconds(work: Callable[[], Any]) -> float:
    """The seconds that some work takes, with what it gives the GPU to do."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start
