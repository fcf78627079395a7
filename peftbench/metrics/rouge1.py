"""`evaluate.load`-able module of `text.rouge1`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
