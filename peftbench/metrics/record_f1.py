"""`evaluate.load`-able module of `functions.record_f1`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
