"""`evaluate.load`-able module of `functions.recall_macro`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
