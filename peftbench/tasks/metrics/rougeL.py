"""`evaluate.load`-able module of `text.rougeL`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
