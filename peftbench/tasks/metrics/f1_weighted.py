"""`evaluate.load`-able module of `functions.f1_weighted`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
