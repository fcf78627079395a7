"""`evaluate.load`-able module of `functions.accuracy`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
