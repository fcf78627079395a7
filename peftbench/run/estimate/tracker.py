"""`Tracker`: which tensors are in memory at each moment of a training step, by what they are held for.

Every storage (what one or several tensors lie in) is followed from the operation that made it until it is freed, by a
weak reference. What it was held for is decided when its fate is known: what a forward pass makes and leaves behind
is an activation, what it frees again is temporary. Memory within one operation (a kernel's workspace) isn't seen.
"""

import math
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from peftbench.run.estimate.torch_compat import TorchDispatchMode, operation, tree_leaves

#: What memory is held for, in the order in which it is shown.
PARTS = ("weights_frozen", "weights_trained", "gradients", "optimizer", "activations", "temporary")
#: The phases of a step, as `Tracker.enter` takes them.
FORWARD, BACKWARD, STEP = "forward", "backward", "step"
#: Attention's kernels on a CPU, which torch's own table of operations lacks; a backward pass makes five products of
#: the forward pass's two.
_CPU_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu": 2,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 5,
}


@dataclass(frozen=True)
class Footprint:
    """Memory of training steps.

    Attributes:
        parts: bytes at the peak, by part (`PARTS`).
        most: by part, its own largest bytes, whenever that was.
        phases: by phase, the largest sum in it.
        where: the phase of the peak.
        flops: floating point operations of one step: of matrix products and attention.
    """

    parts: dict[str, int]
    most: dict[str, int]
    phases: dict[str, int]
    where: str
    flops: int

    @property
    def peak(self) -> int:
        """The largest sum of bytes at one time."""
        return sum(self.parts.values())


@dataclass
class _Storage:
    """A storage: its bytes, the phase (number) that it was made in, and what it is held for, once that is known."""

    size: int
    made: int
    part: str | None = None
    freed: int | None = None


class Tracker(TorchDispatchMode):
    """A mode in which every operation's results are followed. Declare what was there before, then `enter` the
    phases."""

    def __init__(self) -> None:
        super().__init__()
        self._storages: list[_Storage] = []
        #: The storages as they come (index) and go (-1 - index), and at which phase number.
        self._events: list[tuple[int, int]] = []
        self._numbers: dict[int, int] = {}
        self._references: dict[int, weakref.ref[Any]] = {}
        self._phases: list[str] = [FORWARD]
        self.flops = 0

    def enter(self, phase: str) -> None:
        """Begin a phase: what is made from now on is made in it."""
        self._phases.append(phase)

    def declare(self, tensors: Iterable[torch.Tensor], part: str) -> None:
        """Count tensors as a part's, those that were followed before and those that weren't; a tensor that has a part
        keeps it."""
        for tensor in tensors:
            index = self._follow(tensor)
            if index is not None and self._storages[index].part is None:
                self._storages[index].part = part

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf)
        self.flops += _flops(func, args, kwargs or {}, out)
        return out

    def _follow(self, tensor: torch.Tensor) -> int | None:
        """The number of a tensor's storage; None for tensors that have none (on the meta device, or of zero bytes)."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # A sparse tensor, of which its parts are followed.
            return None
        identity = id(storage)
        reference = self._references.get(identity)
        if reference is not None and reference() is storage:
            return self._numbers[identity]
        index = len(self._storages)
        self._storages.append(_Storage(storage.nbytes(), len(self._phases) - 1))
        self._numbers[identity] = index
        self._references[identity] = weakref.ref(storage, lambda _, i=index: self._freed(i))  # type: ignore[misc]
        self._events.append((index, len(self._phases) - 1))
        return index

    def _freed(self, index: int) -> None:
        self._storages[index].freed = len(self._phases) - 1
        self._events.append((-1 - index, len(self._phases) - 1))

    def footprint(self, steps: int) -> Footprint:
        """The footprint of everything since the tracker was made: what was in memory.

        Args:
            steps: how many steps were made, for `flops`.
        """
        held = dict.fromkeys(PARTS, 0)
        parts, most, phases, where, peak = (
            dict(held),
            dict(held),
            dict.fromkeys((FORWARD, BACKWARD, STEP), 0),
            FORWARD,
            -1,
        )
        parts_of = [self._part(storage) for storage in self._storages]
        for event, phase in self._events:
            index, sign = (event, 1) if event >= 0 else (-1 - event, -1)
            held[parts_of[index]] += sign * self._storages[index].size
            most[parts_of[index]] = max(most[parts_of[index]], held[parts_of[index]])
            total, name = sum(held.values()), self._phases[phase]
            phases[name] = max(phases[name], total)
            if total > peak:
                peak, parts, where = total, dict(held), name
        return Footprint(parts, most, phases, where, self.flops // steps)

    def _part(self, storage: _Storage) -> str:
        if storage.part is not None:
            return storage.part
        outlived = storage.freed is None or storage.freed > storage.made
        return "activations" if self._phases[storage.made] == FORWARD and outlived else "temporary"


def _flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    packet = operation(func)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=out))
    name = getattr(packet, "__name__", "")
    if name in ("gemm_4bit", "int8_scaled_mm", "int8_mixed_scaled_mm"):  # bitsandbytes' own products.
        return 2 * args[0].numel() * (args[2][0] if name == "gemm_4bit" else _last(out))
    products = _CPU_ATTENTION.get(name)
    if products is None:
        return 0
    query, key = args[:2] if products == 2 else args[1:3]
    return 2 * products * math.prod(query.shape[:3]) * key.shape[2] * query.shape[3]


def _last(out: Any) -> int:
    """The width of an operation's first result."""
    return int(next(leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)).shape[-1])
