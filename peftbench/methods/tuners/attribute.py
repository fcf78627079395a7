"""What torch can't type: its modules' attributes are all `Tensor | Module` to a type checker."""

from typing import TypeVar

from torch import nn

Kind = TypeVar("Kind")


def attribute(module: nn.Module, name: str, kind: type[Kind]) -> Kind:
    """The attribute `name` of a module, of type `kind`.

    Raises:
        TypeError: it is of another type.
    """
    value: object = getattr(module, name)
    if not isinstance(value, kind):
        raise TypeError(f"{type(module).__name__}.{name} is a {type(value).__name__}, not a {kind.__name__}")
    return value
