"""What we use of Lightning beside its documented interface is still as it was."""

import inspect
import signal
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy

from peftbench.run.training import lightning_compat
from peftbench.run.training.lightning_compat import JoinedRanks

CHANGED = f"Lightning {L.__version__} isn't as {lightning_compat.WRITTEN_FOR} was; see run/training/lightning_compat.py"


@pytest.fixture
def trainer() -> L.Trainer:
    """Of one step, without anything around it."""
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(accelerator="cpu", max_steps=1, **quiet)


@pytest.mark.parametrize("name", [name for name, value in vars(JoinedRanks).items() if inspect.isfunction(value)])
def test_what_is_overridden_is_called_by_that_name(name: str) -> None:
    theirs, ours = (getattr(strategy, name, None) for strategy in (DDPStrategy, JoinedRanks))
    assert theirs is not None, f"{CHANGED}: no {name}"
    assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters), CHANGED


@pytest.mark.parametrize("name", ["set_world_ranks", "_reset_optimizers_and_schedulers"])
def test_what_the_strategy_calls_is_there(name: str) -> None:
    assert list(inspect.signature(getattr(DDPStrategy, name, lambda: None)).parameters) == ["self"], CHANGED


def test_the_strategy_keeps_its_module_by_the_name_that_is_set() -> None:
    assert "_lightning_module" in vars(JoinedRanks()), CHANGED


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (lambda trainer: trainer._signal_connector, "register_signal_handlers"),
        (lambda trainer: trainer.fit_loop.epoch_loop, "_broadcast_sigterm_tensor"),
    ],
)
def test_what_is_silenced_was_there(trainer: L.Trainer, owner: Callable[[L.Trainer], Any], name: str) -> None:
    assert callable(getattr(owner(trainer), name, None)), f"{CHANGED}: no {name}"


class Asks(L.LightningModule):
    """Takes a step, and notes what SIGTERM would do meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = torch.nn.Linear(1, 1)
        self.handler: Any = None

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)
        self.optimizers().step()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.layer.parameters(), lr=0.1)

    def train_dataloader(self) -> list[int]:
        return [0]


@pytest.mark.parametrize("ours", [True, False])
def test_sigterm_is_left_to_us_while_it_trains(trainer: L.Trainer, ours: bool) -> None:
    if ours:
        lightning_compat.leave_signals_alone(trainer)
    module, before = Asks(), signal.getsignal(signal.SIGTERM)
    trainer.fit(module)
    assert (module.handler == before) == ours, CHANGED


def test_the_step_that_is_set_is_the_one_that_is_counted_from(trainer: L.Trainer) -> None:
    loop = trainer.fit_loop.epoch_loop
    counters = (loop.manual_optimization.optim_step_progress.total, loop.batch_progress.total)
    assert all(set(vars(counter).values()) == {0} for counter in counters), CHANGED
    assert loop._batches_that_stepped == 0, CHANGED
    trainer.strategy._lightning_module = Asks()
    lightning_compat.set_step(trainer, 7)
    assert trainer.global_step == 7, CHANGED
    assert all(set(vars(counter).values()) == {7} for counter in counters), CHANGED


def test_a_module_gets_its_trainer_once(trainer: L.Trainer) -> None:
    module = Asks()
    lightning_compat.connect(trainer, module)
    assert module.trainer is trainer, CHANGED
    assert trainer.strategy.lightning_module is module, CHANGED
    lightning_compat.connect(L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False), module)
    assert module.trainer is trainer, CHANGED
