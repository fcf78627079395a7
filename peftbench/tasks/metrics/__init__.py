"""What answers are scored by: functions over labels, numbers and texts, by name.

A module named as a metric (`f1.py`) makes it one of `evaluate`'s. May use `data` and below, and no deep learning.
"""

from peftbench.tasks.metrics.registry import check, compute, directed, get, keys, names, path

__all__ = ["check", "compute", "directed", "get", "keys", "names", "path"]
