"""Packages whose own code runs only once something of them is used."""

import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class _Lazy(ModuleType):
    """A package that has its place in `sys.modules`, but whose `__init__` hasn't run."""

    def __getattr__(self, name: str) -> Any:
        """An attribute: of the submodule that it is known to come from, or else of the package, whose code runs first.

        Raises:
            AttributeError: the package has none by that name.
        """
        home = self.__dict__["_homes"].get(name)
        if home is None and name.startswith("__"):  # What importing itself looks for.
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if home is not None:
            try:
                value = getattr(importlib.import_module(home), name)
            except (ImportError, AttributeError):  # It is elsewhere in another version.
                pass
            else:
                self.__dict__[name] = value
                return value
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader = self.__spec__.loader if self.__spec__ is not None else None
        assert loader is not None
        loader.exec_module(self)
        return getattr(self, name)


def package(name: str, homes: Mapping[str, str], **attributes: Any) -> None:
    """Put off the code of a package's `__init__`, unless the package is imported already or isn't installed.

    Its submodules can be imported meanwhile. What isn't named here has the code run, as an import would have.

    Args:
        homes: by attribute the submodule that it comes from: these are given without the package's code.
        attributes: further ones with their values, until the code runs.
    """
    if name in sys.modules or (spec := importlib.util.find_spec(name)) is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Lazy
    module.__dict__.update(attributes, _homes=homes)
    sys.modules[name] = module
