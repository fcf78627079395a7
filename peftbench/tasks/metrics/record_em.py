"""`evaluate.load`-able module of `functions.record_em`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
