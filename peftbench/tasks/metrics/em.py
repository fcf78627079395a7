"""`evaluate.load`-able module of `functions.em`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
