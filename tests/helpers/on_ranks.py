"""Functions that tests run on ranks: training as a run does it, without dropout, and the state of every rank after
it."""

import contextlib
import dataclasses
import hashlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch import Callback
from torch.distributed.tensor import DTensor

from peftbench.config.types import HardwareConfig
from peftbench.data.datamodule import TaskDataModule
from peftbench.errors import Interrupted
from peftbench.models import dropout
from peftbench.results.store import ResultStore
from peftbench.run import run
from peftbench.run.context import RunContext
from peftbench.run.evaluation import evaluate
from peftbench.run.prepared import PreparedRun
from peftbench.run.training.meter import PeakMemory
from peftbench.run.training.tuner import FineTuner
from peftbench.system import process, ranks, stop
from peftbench.system.process_group import MEETING


class Watch(Callback):
    """Keeps every step's loss, and asks the last rank (alone: the only one) to stop after a step."""

    def __init__(self, step: int | None) -> None:
        self.step = step
        self.losses: dict[int, float] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        look = pl_module._look

        def keep(loss: torch.Tensor) -> None:
            self.losses[trainer.global_step] = loss.item()
            pl_module._look = look
            look(loss)

        pl_module._look = keep

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step and ranks.rank() == ranks.world() - 1:
            stop.ask()


@dataclasses.dataclass
class Followed:
    """A training that was watched, to its end or (`trained` None) to where it was stopped, with what it `said` then.

    Attributes:
        portion: of the model's weights, what this rank held while it trained; `peak`: of its memory.
    """

    job: RunContext
    tuner: FineTuner
    data: TaskDataModule
    portion: float
    trained: run.TrainingResult | None = None
    said: str = ""
    peak: int | None = None


def follow(cell: PreparedRun, watch: Watch) -> Followed:
    """Train as a run does."""
    places, memory = ResultStore(cell.config.results_dir).places(cell.config, cell.key), PeakMemory()
    job = RunContext(cell, places, [], lambda event: None)
    tuner, data = run.set_up(job)
    callbacks = tuner.method.callbacks
    tuner.method.callbacks = lambda: [*callbacks(), watch]  # type: ignore[method-assign]
    followed = Followed(job, tuner, data, _portion(tuner.model))
    stop.ask(False)
    try:
        followed.trained = run.train(job, tuner, data, memory)
    except Interrupted as interrupted:
        followed.said = str(interrupted)
    finally:
        stop.ask(False)
    followed.peak = memory.peak()["peak_memory_bytes"]
    return followed


def train(
    cell: PreparedRun, *, stop_after: int | None = None, drop: bool = False, score: bool = True
) -> dict[str, Any]:
    """A run's training: losses by step, selected step, memory, and a hash of the weights on every rank."""
    watch = Watch(stop_after)
    with contextlib.nullcontext() if drop else without_dropout():
        followed = follow(cell, watch)
    trained = followed.trained
    if trained is None:
        result: dict[str, Any] = {"said": ranks.gathered(followed.said)}
    else:
        result = {"selected": trained.selected, "params": trained.params}
        result |= {"resumed": trained.resumed, "figures": trained.figures}
        if score:
            metrics, _ = evaluate(trained.trainer, followed.tuner, followed.data, followed.job.places.predictions, [])
            validation = metrics["validation"]
            assert validation is not None
            result |= {"score": validation["score"], "loss": validation["loss"]}
    everyone = {"peaks": ranks.gathered(followed.peak), "portions": ranks.gathered(followed.portion)}
    return {**result, **everyone, "losses": list(watch.losses.items()), "weights": _hashes(followed.tuner)}


def _portion(model: torch.nn.Module) -> float:
    """The share of a model's weights that this rank holds, from 0 to 1."""
    held = [p.to_local() if isinstance(p, DTensor) else p for p in model.parameters()]
    return sum(p.numel() for p in held) / sum(p.numel() for p in model.parameters())


@contextlib.contextmanager
def without_dropout() -> Iterator[None]:
    """Within this models are trained without it, so that the same steps have the same losses however they are cut."""

    def install(model: torch.nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0

    before, dropout.install = dropout.install, install
    try:
        yield
    finally:
        dropout.install = before


def _hashes(tuner: FineTuner) -> list[str]:
    tuner.unshard()
    return ranks.gathered(_hash(tuner.model))


def _hash(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **dict(model.named_buffers())}.items()):
        digest.update(name.encode() + tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def on_ranks(hardware: HardwareConfig, function: str, arguments: dict[str, Any], emit: Callable[..., None]) -> None:
    """Call a function of this module; `crew` starts this on every rank. The result is rank 0's."""
    ranks.join(hardware.devices, cuda=False)
    result = globals()[function](**arguments)
    emit({"result": result} if ranks.leave() else {"done": True})


def crew(config: Any, folder: Path, function: str, *, devices: int = 2, **arguments: Any) -> Any:
    """Calls a function of this module on ranks; rank 0's result."""
    hardware = dataclasses.replace(config.hardware, devices=devices, threads=None)
    log = folder / "crew.log"
    outcome = process.call(
        "tests.helpers.on_ranks:on_ranks", hardware, function, arguments, log=log, devices=devices, timeout_s=250
    )
    assert outcome.error is None, (outcome, log.read_text()[-2000:])
    return outcome.result


def train_all(cells: dict[str, PreparedRun], **more: Any) -> dict[str, Any]:
    """`train` of each cell, by name."""
    results = {}
    for name, cell in cells.items():
        logging.warning("here begins %s", name)
        results[name] = train(cell, **more)
    return results


def deaf(emit: Callable[..., None]) -> None:
    """A process that has not begun to listen when it is asked to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    emit({"event": "here"})
    time.sleep(60)


def stuck(hardware: HardwareConfig, emit: Callable[..., None]) -> None:
    """Ranks that say which processes they are, and then wait for the last one, which doesn't come: as they do in a
    step, where nothing but their end gets through to them."""
    ranks.join(hardware.devices, cuda=False)
    pids = ranks.gathered(os.getpid())
    emit({"pids": pids})
    if ranks.rank() == ranks.world() - 1:
        time.sleep(600)
    ranks.barrier()


def late(seconds: float) -> list[float]:
    """How long each rank waits at a barrier that the last one comes to so late."""
    ranks.barrier()
    started = time.monotonic()
    if ranks.rank() == ranks.world() - 1:
        time.sleep(seconds)
    ranks.barrier()
    return ranks.gathered(time.monotonic() - started)


def sums() -> dict[str, Any]:
    """The small things, each rank with numbers of its own."""
    rank = ranks.rank()
    large = torch.nn.Parameter(torch.zeros(3, 4))
    one_sided, unused, frozen = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    large.grad = torch.full((3, 4), 1.0 + rank)
    frozen.requires_grad_(False)
    if rank == 1:
        one_sided.grad = torch.tensor([5.0, 7.0])
    bucket, ranks._BUCKET = ranks._BUCKET, 3
    ranks.sum_gradients([large, one_sided, unused, frozen])
    ranks._BUCKET = bucket
    everywhere = torch.nn.Parameter(torch.zeros(2))
    everywhere.grad = torch.ones(2)
    with mock.patch.object(torch.Tensor, "tolist", side_effect=AssertionError("read on the host")):
        ranks.sum_gradients([everywhere])
    flags = ranks.Flags()
    flagged = [flags.exchange(rank == 1, False), flags.exchange(False, rank == 0)]
    flags.clear()
    before = torch.get_rng_state()
    with ranks.own_draws():
        drawn = float(torch.rand(()))
    sent = [torch.tensor([rank + 0.5]), torch.tensor(rank == 0), torch.tensor(rank, dtype=torch.int8)]
    for tensor in sent:
        ranks.spread(tensor)
    mark = Path(os.environ[MEETING]).with_name("made")
    with ranks.first_alone():
        there = mark.exists()
        if ranks.is_first():
            time.sleep(0.3)
            mark.touch()
    return {
        "gradients": [None if p.grad is None else p.grad.tolist() for p in (large, one_sided, unused, frozen)],
        "all_alike": len(set(ranks.gathered(str(one_sided.grad)))) == 1,
        "share": ranks.gathered(list(ranks.share(5))),
        "empty": ranks.gathered(list(ranks.share(1))),
        "interleaved": ranks.interleaved([f"batch {i}" for i in range(5) if ranks.takes(i)]),
        "everywhere": everywhere.grad.tolist(),
        "flagged": [*flagged, flags.exchange(False, False)],
        "told": ranks.gathered(ranks.told(rank)),
        "drawn": ranks.gathered(drawn),
        "streams": ranks.gathered(torch.get_rng_state().sum().item()),
        "moved": not torch.equal(before, torch.get_rng_state()),
        "sent": ranks.gathered([t.item() for t in sent]),
        "memory": ranks.summed({"peak": 5 + rank, "unknown": None if rank else 3}),
        "there": ranks.gathered(there),
    }


def asked_below(numbers: list[int], emit: Callable[..., None]) -> None:
    """Send signals to this process and to its fork server, as a scheduler does that asks every process of a job."""
    for pid in (os.getppid(), os.getpid()):
        for number in numbers:
            os.kill(pid, number)
    time.sleep(1)
    emit({"result": {"server": os.getppid()}})


def saves(emit: Callable[..., None]) -> None:
    """Takes longer to save than a process is given that nobody waits for."""
    with stop.deferred():
        emit({"event": "here"})
        while not stop.asked():
            time.sleep(0.05)
        time.sleep(12)
        emit({"result": "saved"})
