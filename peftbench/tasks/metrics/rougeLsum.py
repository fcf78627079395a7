"""`evaluate.load`-able module of `text.rougeLsum`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
