"""`evaluate.load`-able module of `text.chrf`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
