"""`evaluate.load`-able module of `functions.balanced_accuracy`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
