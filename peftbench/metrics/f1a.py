"""`evaluate.load`-able module of `functions.f1a`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
