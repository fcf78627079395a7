"""`evaluate.load`-able module of `functions.accuracy`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
