"""`evaluate.load`-able module of `functions.pearson`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
