"""Puts off torch's compiler (`torch._dynamo`, a second to import): a run needs it at its first step, and the check
before the runs not at all.

tests/run/test_imports.py fails where a later torch has changed what this uses beside the documented interface.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch

#: The torch that this file was written against.
WRITTEN_FOR = "2.13.0"
NAME = "torch._dynamo"


class _StandIn(ModuleType):
    """A module that is imported in the compiler's place."""

    def __getattr__(self, name: str) -> Any:
        """A name that this file doesn't know: the compiler is imported for it."""
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
        return getattr(importlib.import_module(NAME), name)


_STAND_IN = _StandIn(NAME)
#: The attribute by which torch remembers how to call a function outside of compiled code.
_UNCOMPILED = "__dynamo_disable"


def _constant(function: Any) -> Any:
    """`torch._dynamo.assume_constant_result`: a mark that compiling looks for."""
    function._dynamo_marked_constant = True
    return function


#: What the compiler shall take as it is, once it is there.
_ALLOWED: list[Any] = []


def _allow(function: Any) -> Any:
    """`torch._dynamo.allow_in_graph`, done by `load`."""
    _ALLOWED.append(function)
    return function


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Puts the compiler's import off: while entered, imports get the two names that they want of it, and what
    bitsandbytes compiles is compiled when it is called. Optimisers can be made afterwards without the compiler, too."""
    if NAME in sys.modules:
        yield
        return
    spec = importlib.util.find_spec(NAME)
    vars(_STAND_IN).update(_NAMES, __path__=spec.submodule_search_locations if spec else [])
    sys.modules[NAME], compile_now = _STAND_IN, torch.compile
    torch.compile = functools.partial(_compile_late, compile_now)
    try:
        yield
    finally:
        torch.compile = compile_now
        if sys.modules[NAME] is _STAND_IN:
            del sys.modules[NAME]
    vars(_add_param_group())[_UNCOMPILED] = disable(_add_param_group())


def load() -> None:
    """Import it."""
    compiler = importlib.import_module(NAME)
    while _ALLOWED:
        compiler.allow_in_graph(_ALLOWED.pop())


def _waits() -> bool:
    return sys.modules.get(NAME, _STAND_IN) is _STAND_IN


def _add_param_group() -> Any:
    """The method that making an optimiser calls, which mustn't be compiled."""
    return torch.optim.Optimizer.add_param_group.__wrapped__  # type: ignore[attr-defined]


def _compile_late(compile_now: Callable[..., Any], function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`torch.compile` of a function, which imports the compiler when the function is called first."""
    compiled = functools.cache(lambda: compile_now(function, **options))

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return compiled()(*arguments, **named)

    return call


class _AnyCompiled(type):
    """Makes `isinstance` ask torch's class of compiled modules, once there can be any."""

    def __instancecheck__(cls, instance: object) -> bool:
        return not _waits() and isinstance(instance, sys.modules[NAME].OptimizedModule)


class OptimizedModule(metaclass=_AnyCompiled):
    """The class of modules that `torch.compile` made."""


def disable(function: Any = None, recursive: bool = True, **options: Any) -> Any:
    """`torch._dynamo.disable`, which keeps a function from being compiled: without the compiler it is called as it is.
    Also a decorator."""
    if function is None:
        return functools.partial(disable, recursive=recursive, **options)
    disabled = functools.cache(lambda: torch._dynamo.disable(function, recursive, **options))

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        chosen = function if _waits() else disabled()
        return chosen(*arguments, **named)

    return call


#: What is asked of the compiler by modules while they are imported, beside its submodules.
_NAMES = {
    "OptimizedModule": OptimizedModule,
    "disable": disable,
    "assume_constant_result": _constant,
    "allow_in_graph": _allow,
}
