"""Models without weights that can be trained: of torch's fake tensors (shapes, types and storages, no data)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from peftbench.run.estimate.torch_compat import FakeTensor, FakeTensorMode, TorchDispatchMode, tree_leaves

#: Elements up to which tensors that depend on no fake one are computed: token ids, masks, positions. What code decides
#: by their values (how long an answer is, whether a mask hides anything) comes out as in a run.
_SMALL = 1 << 22


class Faking(TorchDispatchMode):
    """A mode in which operations on fake tensors give fake tensors; small ones on real tensors alone are computed."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.fake = torch.device(device), FakeTensorMode(allow_non_fake_inputs=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        faked = any(isinstance(tensor, FakeTensor) for tensor in tensors)
        if not faked and (_numel(tensors) if tensors else _made(args)) <= _SMALL // (1 if tensors else 64):
            return func(*args, **kwargs)
        if func in _INDEXING:
            args = (args[0], _places(args[1]), *args[2:])
        with self.fake:
            return func(*args, **kwargs)

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """A fake tensor of a meta tensor's shape and type on the device; views of one storage stay so."""
        converter = self.fake.fake_tensor_converter
        return converter.from_meta_and_device(self.fake, tensor, self.device)


#: Operations whose second argument are indices, which may be masks.
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


def _places(indices: Any) -> list[Any]:
    """Indices, with masks whose values are there as the places that they choose: a fake mask chooses nobody knows how
    many."""
    places: list[Any] = []
    for index in indices:
        mask = isinstance(index, torch.Tensor) and index.dtype == torch.bool and not isinstance(index, FakeTensor)
        places += index.nonzero(as_tuple=True) if mask else [index]
    return places


def _numel(tensors: list[torch.Tensor]) -> int:
    """Elements of what broadcasting these tensors gives, or of the largest."""
    try:
        return torch.Size(torch.broadcast_shapes(*(t.shape for t in tensors))).numel()
    except RuntimeError:
        return max(t.numel() for t in tensors)


def _made(args: Any) -> int:
    """Elements of what a function without tensors makes: by its size, or by the end of a range."""
    sizes = [torch.Size(part).numel() if isinstance(part, list | tuple) else part for part in args]
    return max((int(size) for size in sizes if isinstance(size, int)), default=0)


def fake(model: nn.Module, faking: Faking) -> nn.Module:
    """The model, in which tensors on the meta device, and all floats, are replaced by fake ones: parameters, buffers,
    and what modules hold beside them. Tied ones stay tied."""
    replacements: dict[int, Any] = {}

    def replaced(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if isinstance(value, FakeTensor) or not (value.is_meta or value.is_floating_point()):
                return value  # Numbers of places (indices) stay as they are.
            if id(value) not in replacements:
                replacements[id(value)] = value, _faked(value, faking.of)
            return replacements[id(value)][1]
        if isinstance(value, dict):
            for name, part in list(value.items()):
                if (new := replaced(part)) is not part:
                    value[name] = new
        elif isinstance(value, list):
            value[:] = [replaced(part) for part in value]
        elif isinstance(value, tuple) and type(value) is tuple:
            return tuple(replaced(part) for part in value) if any(isinstance(p, torch.Tensor) for p in value) else value
        return value

    for module in model.modules():
        for name, value in list(vars(module).items()):
            if name != "_modules" and (new := replaced(value)) is not value:
                vars(module)[name] = new
    return model


def _faked(tensor: torch.Tensor, make: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    new = make(tensor.detach().to("meta"))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(new, requires_grad=tensor.requires_grad)
    return new
