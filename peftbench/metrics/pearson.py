"""`evaluate.load`-able module of `functions.pearson`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
