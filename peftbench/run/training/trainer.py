"""How many steps a run has, and Lightning's trainer for them."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger

from peftbench.config.types import RunConfig
from peftbench.run.training.lightning_compat import JoinedRanks, leave_signals_alone


def total_steps(config: RunConfig, samples: int) -> int:
    """Optimiser steps of a run: `recipe.max_steps`, or the epochs' global batches."""
    recipe = config.recipe
    return recipe.max_steps or recipe.epochs * -(-samples // recipe.batch_size)


def validates(config: RunConfig) -> bool:
    """True if there are several evaluations to select between: one at the end alone leaves no choice."""
    recipe = config.recipe
    several = recipe.eval_steps is not None or recipe.epochs > 1 or recipe.max_steps is not None
    return several and recipe.selection != "last"


def build_trainer(
    config: RunConfig, sinks: Sequence[Logger], callbacks: list[Any], *, steps: int, epoch_steps: int
) -> L.Trainer:
    """Lightning's trainer, without what this project does itself: checkpoints, progress bar, distributed sampler.

    Args:
        steps: optimiser steps of the whole run.
        epoch_steps: steps of an epoch; `recipe.eval_steps` defaults to that.
    """
    hardware = config.hardware
    several = hardware.devices > 1
    trainer = L.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=JoinedRanks() if several else "auto",
        # Not what Lightning would find in the environment, such as Slurm's.
        plugins=LightningEnvironment() if several else None,
        precision=hardware.precision,  # type: ignore[arg-type]
        max_steps=steps,
        max_epochs=-1,
        # The data come in one pass (`sampler.Steps`): Lightning knows of no epochs.
        val_check_interval=config.recipe.eval_steps or epoch_steps,
        check_val_every_n_epoch=None,
        logger=list(sinks) or False,
        callbacks=callbacks,
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    leave_signals_alone(trainer)
    return trainer
