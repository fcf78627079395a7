"""`evaluate.load`-able module of `functions.record_em`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
