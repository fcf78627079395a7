"""A run that was stopped and taken up again ends where an uninterrupted one ends, to the bit."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.demos.boring_classes import BoringModel

from peftbench.config import identity, types
from peftbench.errors import NotApplicable
from peftbench.run import run
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.trainer import build_trainer
from tests.helpers import on_ranks
from tests.helpers.composed import composed, trained
from tests.helpers.on_ranks import Watch
from tests.helpers.runs import NOT_HERE

#: Steps of a run, over two epochs of 4, and those after which it is stopped: not where an epoch or an evaluation ends.
STEPS, STOPPED = 6, 3


class _Ask(Watch):
    """Keeps the weights after the last step too."""

    def __init__(self, step: int | None) -> None:
        super().__init__(step)
        self.last: dict[str, torch.Tensor] = {}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.last = _state(pl_module.model)


def _state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in weights.items()}


@dataclasses.dataclass
class Ended:
    """What a run is compared by: weights of the selected step and of the last one, and all losses."""

    selected: dict[str, torch.Tensor]
    last: dict[str, torch.Tensor]
    losses: dict[int, float]
    trained: run.TrainingResult | None


def _train(cell: PreparedRun, *, stop_after: int | None = None) -> Ended:
    """A run in this process, up to its end or to where it is stopped."""
    ask = _Ask(stop_after)
    found = on_ranks.follow(cell, ask)
    assert found.said == (f"stopped at step {stop_after} of {STEPS}; goes on from there" if stop_after else "")
    return Ended(_state(found.tuner.model), ask.last, ask.losses, found.trained)


def _same(left: Ended, right: Ended) -> None:
    assert left.trained is not None
    assert right.trained is not None
    assert left.trained.selected == right.trained.selected
    assert left.trained.params == right.trained.params
    for one, other in ((left.selected, right.selected), (left.last, right.last)):
        assert one.keys() == other.keys() != set()
        assert [name for name, tensor in one.items() if not torch.equal(tensor, other[name])] == []


def _stop_and_go_on(at: Callable[..., PreparedRun], given: list[str]) -> None:
    """The model has dropout: a random number too many or too few is seen."""
    whole = _train(at("whole", *given))
    first = _train(at("cut", *given), stop_after=STOPPED)
    second = _train(at("cut", *given))
    assert whole.losses == {**first.losses, **second.losses}
    assert not first.losses.keys() & second.losses.keys()
    assert second.trained is not None
    assert second.trained.resumed == [STOPPED]
    _same(whole, second)


CASES = ["lora", "full", "adalora"]


@pytest.mark.parametrize("method", CASES)
def test_stopped_and_taken_up_again_it_ends_where_it_would_have(at, method: str) -> None:
    _stop_and_go_on(at, [f"method={method}"])


@pytest.mark.slow
@pytest.mark.matrix
@pytest.mark.parametrize("method", sorted(trained().keys() - set(CASES)))
def test_every_method_keeps_what_it_needs(at, fitting, method: str) -> None:
    try:
        given = fitting(method)
    except NotApplicable:
        pytest.skip(NOT_HERE[method])  # Another method would fail here: of those listed alone there is nothing to see.
    _stop_and_go_on(at, given)


@on_ranks.without_dropout()
def test_batches_halved_because_memory_ran_out_give_the_same_steps(at) -> None:
    found = at("whole", "method=lora")
    whole = _train(found)
    halved = _train(dataclasses.replace(found, config=identity.halved(_elsewhere(found.config), 2)))
    assert len(whole.losses) == STEPS
    assert list(halved.losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-5)
    # Half of the run in whole batches, the rest in quarters.
    cut = dataclasses.replace(found, config=_elsewhere(found.config, "cut"))
    first = _train(cut, stop_after=STOPPED)
    second = _train(dataclasses.replace(cut, config=identity.halved(cut.config, 2)))
    assert second.trained.resumed == [STOPPED]
    losses = {**first.losses, **second.losses}
    assert list(losses.values()) == pytest.approx(list(whole.losses.values()), rel=1e-5)


def _elsewhere(config: types.RunConfig, folder: str = "halved") -> types.RunConfig:
    return dataclasses.replace(config, results_dir=str(Path(config.results_dir).parent / folder))


def test_lightning_leaves_the_question_to_stop_alone() -> None:
    seen, before = [], signal.getsignal(signal.SIGTERM)

    class Look(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(signal.getsignal(signal.SIGTERM))

    build_trainer(composed([]), [], [Look()], steps=1, epoch_steps=1).fit(BoringModel())
    assert (seen, signal.getsignal(signal.SIGTERM)) == ([before], before)


def test_how_batches_are_halved() -> None:
    config = composed(["recipe.batch_size=20", "hardware.micro_batch_size=12"])
    assert [identity.micro_batch_size(config, n) for n in range(6)] == [12, 6, 3, 1, 1, 1]
    assert identity.micro_batch_size(composed(["recipe.batch_size=20"])) == 20
    assert identity.halved(config, 0) is config
    hardware = identity.halved(config, 3).hardware
    assert (hardware.micro_batch_size, hardware.eval_batch_size) == (1, 8)


def test_there_are_methods_to_test() -> None:
    assert set(CASES) < trained().keys()
