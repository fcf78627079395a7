"""Where code would wait for a device, seen on a CPU: by following what is computed from tensors that would be there."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations whose result has a shape, or is a number, that the host must know.
_READ = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "is_nonzero")


class Waits(TorchDispatchMode):
    """Follows tensors, and all that is computed from them.

    Attributes:
        names: the operations that would have waited for the device.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.names: list[str] = []
        #: Storages that would be on the device; held, so that no other takes their place.
        self._there = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}

    def _follows(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() in self._there

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        followed = [leaf for leaf in tree_leaves((args, kwargs or {})) if self._follows(leaf)]
        if followed:
            name = func.overloadpacket.__name__
            masked = name in ("index", "index_put", "index_put_") and any(t.dtype == torch.bool for t in followed)
            if name in _READ or masked:
                self.names.append(name)
            for leaf in tree_leaves(result):
                if isinstance(leaf, torch.Tensor):
                    self._there[leaf.untyped_storage().data_ptr()] = leaf
        return result
