"""How long a run is, and Lightning's trainer for it."""

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import DDPStrategy

from peftbench.config.types import RunConfig


def total_steps(config: RunConfig, samples: int) -> int:
    """Optimiser steps of a run: `recipe.max_steps`, or the epochs' global batches."""
    recipe = config.recipe
    return recipe.max_steps or recipe.epochs * -(-samples // recipe.batch_size)


def validates(config: RunConfig) -> bool:
    """Whether there is anything to select between: with one evaluation, at the end, there isn't."""
    recipe = config.recipe
    several = recipe.eval_steps is not None or recipe.epochs > 1 or recipe.max_steps is not None
    return several and recipe.selection != "last"


class Ranks(DDPStrategy):
    """Lightning's DDP without its wrapper: ranks that `isolate` started and `ranks.join` brought together. Gradients
    are added up in `FineTuner`, after the backward passes of all micro batches: DDP would take a mean during each, and
    knows neither weights that methods freeze and wake in between nor those that a rank doesn't use."""

    def _configure_launcher(self) -> None:
        """The processes are there."""

    def setup_distributed(self) -> None:
        self.set_world_ranks()

    def configure_ddp(self) -> None:
        """The model stays as it is."""

    def model_to_device(self) -> None:
        """Weights that are shared out lie where they belong."""
        if not _shared_out(self.model):
            super().model_to_device()

    def teardown(self) -> None:
        module = self._lightning_module
        if _shared_out(module):  # Lightning would move their weights to the CPU.
            self._lightning_module = None
            self._reset_optimizers_and_schedulers()
        super().teardown()
        self._lightning_module = module


def _shared_out(model: Any) -> bool:
    return getattr(model, "shards", None) is not None


def build_trainer(
    config: RunConfig, sinks: Sequence[Logger], callbacks: list[Any], *, steps: int, epoch_steps: int
) -> L.Trainer:
    """Lightning's trainer, without what this project does itself: checkpoints, progress bar, distributed sampler.

    Args:
        steps: of the whole run; `epoch_steps`: of an epoch, after each of which it evaluates by default.
    """
    hardware = config.hardware
    several = hardware.devices > 1
    trainer = L.Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=Ranks() if several else "auto",
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
    # SIGTERM is `stop`'s alone. Lightning would send word to all ranks from within its handler, wherever they are, and
    # ask them all before every step.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer
