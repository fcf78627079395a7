"""What this project uses of Lightning beside its documented interface.

tests/run/test_lightning_compat.py fails where a later Lightning has changed it.
"""

from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy

#: The Lightning that this file was written against.
WRITTEN_FOR = "2.6.6"


class JoinedRanks(DDPStrategy):
    """Lightning's DDP without its launcher and its wrapper, for ranks that `process_group` started and `ranks.join`
    brought together. `FineTuner` adds gradients up, after the backward passes of all micro batches: DDP would take a
    mean during each, and knows neither weights that methods freeze and wake in between nor those that a rank doesn't
    use."""

    def _configure_launcher(self) -> None:
        """No launcher: the processes run already."""

    def setup_distributed(self) -> None:
        """No new process group: `ranks.join` made one."""
        self.set_world_ranks()

    def configure_ddp(self) -> None:
        """No wrapper: the model stays as it is."""

    def model_to_device(self) -> None:
        """Move the model, unless its weights are sharded: those lie where they belong."""
        if not _sharded(self.model):
            super().model_to_device()

    def teardown(self) -> None:
        """Clean up without the sharded weights, which Lightning would move to the CPU."""
        module = self._lightning_module
        if _sharded(module):
            self._lightning_module = None
            self._reset_optimizers_and_schedulers()
        super().teardown()
        self._lightning_module = module


def _sharded(module: Any) -> bool:
    """True if a FineTuner's weights are shared out over ranks (FSDP)."""
    return getattr(module, "shards", None) is not None


def leave_signals_alone(trainer: L.Trainer) -> None:
    """Keep a trainer from handling SIGTERM, which is `stop`'s alone.

    Lightning has no option for that. It would send word to all ranks from within its handler, wherever they are, and
    ask all of them before every step.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def connect(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Give a module that hasn't been fitted in this process its trainer. A fitted one stays as it is.

    `module.trainer` raises where there is none, so that the private name is asked.
    """
    if module._trainer is None:
        module.trainer = trainer
        trainer.strategy.connect(module)


def set_step(trainer: L.Trainer, step: int) -> None:
    """Let a trainer count from this step on, as if it had taken those before.

    Lightning restores its counters from its own checkpoints alone. With one pass over the data (`sampler.Steps`) these
    are all of them.
    """
    loop = trainer.fit_loop.epoch_loop
    for progress in (loop.manual_optimization.optim_step_progress, loop.batch_progress):
        for name in vars(progress.total):
            setattr(progress.total, name, step)
    loop._batches_that_stepped = step
