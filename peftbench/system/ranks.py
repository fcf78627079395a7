"""The ranks of one run, each a process on a device of its own: which rank this is, and collectives over all of them.

With one device everything here does nothing. The ranks hold the same model and see the same global batches; each works
on its part of them, and what they add up is what one process would have had.
"""

import contextlib
import datetime
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from peftbench.system.process_group import MEETING

T = TypeVar("T")

#: How long a rank waits for the others. Their parent sees it when one has gone, and ends them all.
_PATIENCE = datetime.timedelta(days=30)
#: Numbers that are added up at a time: what the copy takes (64 MB).
_BUCKET = 1 << 24


def join(devices: int, *, cuda: bool) -> None:
    """Join the `devices` ranks of this run in torch.distributed's process group. Where they meet, and which rank this
    is, stands in the environment (`process_group`). `cuda`: each rank has the GPU of its number."""
    if devices == 1:
        return
    rank = int(os.environ["RANK"])
    if cuda:
        torch.cuda.set_device(rank)
    _stay_here()
    # Lightning asks for sync_dist= where metrics are logged: ours are equal on all ranks already.
    warnings.filterwarnings("ignore", message=".*sync_dist.*")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"file://{os.environ[MEETING]}",
        rank=rank,
        world_size=devices,
        timeout=_PATIENCE,
    )


def _stay_here() -> None:
    """Have gloo listen on the loopback interface alone: all ranks are on this machine."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Makes a process outside of any run, while entered, the only rank of a process group, for code that needs one on a
    CPU."""
    _stay_here()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


def leave() -> bool:
    """Leave the process group, together with all ranks; returns whether this was rank 0, which goes on alone."""
    first = is_first()
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
    return first


def world() -> int:
    """The number of ranks."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this rank, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_gpus() -> bool:
    """True if each rank has a GPU."""
    return dist.is_initialized() and "nccl" in dist.get_backend_config()


def is_first() -> bool:
    """True if this is rank 0, which writes files and reports."""
    return rank() == 0


def barrier() -> None:
    """Wait until all ranks are here. Not by a broadcast: from four ranks on, some wouldn't wait for the last one."""
    gathered(None)


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Lets rank 0 go first, and the other ranks wait until it is through: they find the files that it made."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def told(value: T) -> T:
    """Broadcast: rank 0's value, on all ranks."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """All-gather: every rank's value in the order of ranks, on all ranks."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


class Flags:
    """Flags that any rank may raise at any step. All ranks learn of them at their next step: by then they have been
    sent, and nobody waits for another."""

    def __init__(self) -> None:
        self._sent: tuple[torch.Tensor, Any] | None = None

    def exchange(self, *flags: bool) -> list[bool]:
        """Send this rank's flags; for each of those sent at the last call, whether any rank had it set. Of one rank
        that are its own of this call."""
        if world() == 1:
            return list(flags)
        before = [False] * len(flags) if self._sent is None else [bool(flag) for flag in self._received()]
        most = torch.tensor(flags, dtype=torch.int32)
        self._sent = most, dist.all_reduce(most, dist.ReduceOp.MAX, async_op=True)
        return before

    def clear(self) -> None:
        """Forget what was sent last; all ranks must call it."""
        if self._sent is not None:
            self._received()
            self._sent = None

    def _received(self) -> list[int]:
        assert self._sent is not None
        most, work = self._sent
        work.wait()
        return [int(flag) for flag in most.tolist()]


def share(count: int) -> range:
    """The indices out of `count` that are this rank's share. Shares are contiguous, differ in size by one at most, and
    may be empty."""
    return range(count * rank() // world(), count * (rank() + 1) // world())


def takes(index: int) -> bool:
    """True if the batch of this number is this rank's to score."""
    return index % world() == rank()


def interleaved(mine: Sequence[T]) -> list[T]:
    """All ranks' results, one for each batch that the rank took (`takes`), in the order of the batches."""
    rounds = itertools.zip_longest(*gathered(list(mine)))
    return [result for row in rounds for result in row if result is not None]


def total(value: torch.Tensor) -> torch.Tensor:
    """All-reduce: the sum of a tensor over ranks, in place."""
    if world() > 1:
        dist.all_reduce(value)
    return value


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum every trained parameter's gradient over ranks, in place. A rank without a gradient adds nothing; a parameter
    that has a gradient on no rank keeps none.

    A rank's gradient is that of its share of one loss: the sum is the loss's gradient, however the loss was shared."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    mine = [p.grad for p in trained]
    counts = torch.tensor([g is not None for g in mine], dtype=torch.int32).to(trained[0].device, non_blocking=True)
    dist.all_reduce(counts)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(trained, mine, strict=True)]
    for bucket in _buckets(gradients):
        flat = torch.cat([g.reshape(-1).float() for g in bucket])
        dist.all_reduce(flat)
        for g, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            g.copy_(summed.view_as(g))
    if any(g is None for g in mine):  # Only then it is read on the host, which waits for the device.
        for p, own, summed, count in zip(trained, mine, gradients, counts.tolist(), strict=True):
            p.grad = summed if own is not None or count else None


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors in groups of at most `_BUCKET` numbers each; a larger tensor is a group of its own."""
    bucket: list[torch.Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel()
    if bucket:
        yield bucket


@contextlib.contextmanager
def own_draws() -> Iterator[None]:
    """Makes torch's random numbers (dropout's) differ from rank to rank while entered. Afterwards the generators of all
    ranks are in the same state again, so that a saved state needs rank 0's alone."""
    if world() == 1:
        yield
        return
    seed = int(torch.randint(2**62, ()))
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed + rank())
        yield


@torch.no_grad()
def spread(tensor: torch.Tensor) -> None:
    """Broadcast rank 0's values of a tensor to all ranks, in place."""
    if world() > 1:
        raw = tensor.contiguous().reshape(-1).view(torch.uint8)  # Not every backend sends every type.
        dist.broadcast(raw, src=0)
        tensor.copy_(raw.view(tensor.dtype).view_as(tensor))


def summed(figures: dict[str, int | None]) -> dict[str, int | None]:
    """Bytes of memory over ranks: under each name the sum, under `<name>_per_device` the largest. None where a rank has
    none to tell."""
    if world() == 1:
        return figures
    everyone = gathered(figures)
    over_ranks: dict[str, int | None] = {}
    for name in figures:
        values = [value for figure in everyone if (value := figure[name]) is not None]
        all_known = len(values) == len(everyone)
        most = f"{name}_per_device"
        over_ranks |= {name: sum(values) if all_known else None, most: max(values) if all_known else None}
    return over_ranks
