"""`evaluate.load`-able module of `functions.f1_macro`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
