"""`evaluate.load`-able module of `text.rouge2`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
