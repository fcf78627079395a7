"""`evaluate.load`-able module of `text.exact_match`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
