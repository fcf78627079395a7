"""What the estimate uses of torch under private names: tensors without data, and every operation as it is called.

tests/run/estimate/test_torch_compat.py fails where a later torch has changed it.
"""

from typing import Any

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["WRITTEN_FOR", "FakeTensor", "FakeTensorMode", "TorchDispatchMode", "operation", "tree_leaves"]

#: The torch that this file was written against.
WRITTEN_FOR = "2.13.0"


def operation(called: Any) -> Any:
    """The operation that one of its overloads belongs to, as torch's table of products has it; None for others."""
    return getattr(called, "_overloadpacket", None)
