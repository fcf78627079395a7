"""`evaluate.load`-able module of `text.rougeLsum`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
