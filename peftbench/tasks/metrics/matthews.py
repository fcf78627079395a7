"""`evaluate.load`-able module of `functions.matthews`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
