"""One process of several that make one run together, each on a device of its own: who it is, and what they agree on.

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
    """Meet the other ranks of this run, of which there are `devices`; the process group has said in the environment
    where. `cuda`: each has the GPU of its number."""
    if devices == 1:
        return
    rank = int(os.environ["RANK"])
    if cuda:
        torch.cuda.set_device(rank)
    _stay_here()
    # What is equal on all ranks needs no mean.
    warnings.filterwarnings("ignore", message=".*sync_dist.*")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        init_method=f"file://{os.environ[MEETING]}",
        rank=rank,
        world_size=devices,
        timeout=_PATIENCE,
    )


def _stay_here() -> None:
    """All are on this machine: no other interface need be listened on."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Within this, outside of any run, a process is the only rank: to try on a CPU what needs ranks."""
    _stay_here()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        dist.destroy_process_group()


def leave() -> bool:
    """Part from the others; whether this rank is the one that goes on. From here on it is alone."""
    first = is_first()
    if dist.is_initialized():
        barrier()
        dist.destroy_process_group()
    return first


def world() -> int:
    """How many ranks there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This one's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def on_gpus() -> bool:
    """Whether each rank has a GPU."""
    return dist.is_initialized() and "nccl" in dist.get_backend_config()


def is_first() -> bool:
    """Whether this rank is the one that writes and tells."""
    return rank() == 0


def barrier() -> None:
    """Wait until all are here. Not by a broadcast: from four ranks on, some needn't wait for the last one there."""
    gathered(None)


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """Rank 0 goes through this before the others do, so that they find what it made."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def told(value: T) -> T:
    """Rank 0's value, on all."""
    if world() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def gathered(value: T) -> list[T]:
    """Every rank's value, in their order, on all."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    dist.all_gather_object(values, value)
    return values


def any_of(*flags: bool) -> list[bool]:
    """Of each flag whether any rank has it."""
    if world() == 1:
        return list(flags)
    found = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return [bool(flag) for flag in found.tolist()]


def share(count: int) -> range:
    """Which of `count` things are this rank's: parts differ by one at most, and may be empty."""
    return range(count * rank() // world(), count * (rank() + 1) // world())


def takes(index: int) -> bool:
    """Whether the batch of this number is this rank's to score."""
    return index % world() == rank()


def interleaved(mine: Sequence[T]) -> list[T]:
    """What all ranks made of the batches that they took, in the order of the batches."""
    rounds = itertools.zip_longest(*gathered(list(mine)))
    return [made for row in rounds for made in row if made is not None]


def total(value: torch.Tensor) -> torch.Tensor:
    """The sum over ranks."""
    if world() > 1:
        dist.all_reduce(value)
    return value


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up every parameter's gradients over ranks. A rank that has none adds nothing; where no rank has one, there is
    none. Each rank's are of its share of one loss, so that the sum is that loss's gradient however it was shared."""
    if world() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    there = any_of(*(p.grad is not None for p in trained))
    gradients = []
    for p, used in zip(trained, there, strict=True):
        if used:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            gradients.append(p.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([g.reshape(-1).float() for g in bucket])
        dist.all_reduce(flat)
        for g, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            g.copy_(summed.view_as(g))


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Tensors in groups of like size, a large one alone."""
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
    """Within this torch's random numbers (dropout's) are this rank's own; after it, all ranks stand at the same place
    of the same stream again, so that a saved state needs rank 0's alone."""
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
    """Give all ranks rank 0's values, in place."""
    if world() > 1:
        raw = tensor.contiguous().reshape(-1).view(torch.uint8)  # Not every backend sends every type.
        dist.broadcast(raw, src=0)
        tensor.copy_(raw.view(tensor.dtype).view_as(tensor))


def summed(figures: dict[str, int | None]) -> dict[str, int | None]:
    """Memory of all ranks together, and with `_per_device` in its name that of the one that needs the most; None where
    a rank doesn't know."""
    if world() == 1:
        return figures
    everyone = gathered(figures)
    found: dict[str, int | None] = {}
    for name in figures:
        values = [value for figure in everyone if (value := figure[name]) is not None]
        known = len(values) == len(everyone)
        most = f"{name}_per_device"
        found |= {name: sum(values) if known else None, most: max(values) if known else None}
    return found
