"""What a model is asked: how examples become inputs, a loss, answers and scores; metrics are in `metrics/`.

May import `data` and below. The way in is `build`: a new task type is a class and its line in `table.py`.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`tasks.build(config)`, without importing torch for those who want a metric alone."""
    if name == "build":
        from peftbench.tasks.table import build

        return build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
