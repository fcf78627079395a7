"""`evaluate.load`-able module of `functions.em`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
