"""What the estimate uses of torch under private names is still as it was."""

import torch
from torch.utils.flop_counter import flop_registry

from peftbench.run.estimate import torch_compat
from peftbench.run.estimate.torch_compat import FakeTensor, FakeTensorMode, TorchDispatchMode, operation, tree_leaves

CHANGED = f"torch {torch.__version__} isn't as {torch_compat.WRITTEN_FOR} was; see run/estimate/torch_compat.py"


class Names(TorchDispatchMode):
    """Keeps the names of the operations that are called within it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(operation(func).__name__)
        return func(*args, **(kwargs or {}))


def test_a_fake_tensor_has_a_shape_and_no_data() -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = mode.fake_tensor_converter.from_meta_and_device(mode, torch.empty(2, 3, device="meta"), torch.device("cpu"))
    assert isinstance(fake, FakeTensor), CHANGED
    assert (fake.shape, fake.device.type) == ((2, 3), "cpu"), CHANGED
    with mode:
        assert isinstance(fake @ torch.ones(3, 4), FakeTensor), CHANGED


def test_a_mode_is_called_with_every_operation() -> None:
    with Names() as called:
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert called.names == ["ones", "ones", "mm"], CHANGED


def test_leaves_are_had_in_their_order() -> None:
    assert tree_leaves(([1, 2], {"a": (3,)})) == [1, 2, 3], CHANGED


def test_an_overload_belongs_to_the_operation_that_the_table_of_products_has() -> None:
    assert operation(torch.ops.aten.mm.default) in flop_registry, CHANGED
    assert operation(len) is None
