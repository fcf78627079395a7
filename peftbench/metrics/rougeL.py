"""`evaluate.load`-able module of `text.rougeL`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
