"""`evaluate.load`-able module of `functions.matthews`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
