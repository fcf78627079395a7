"""What the estimate uses of torch under private names: tensors without data, and every operation as it is called.

tests/run/estimate/test_torch_compat.py fails where a later torch has changed it.
"""

from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["WRITTEN_FOR", "FakeTensor", "FakeTensorMode", "TorchDispatchMode", "tree_leaves"]

#: The torch that this file was written against.
WRITTEN_FOR = "2.13.0"
