"""`evaluate.load`-able module of `text.chrf`."""

from peftbench.tasks.metrics import module

Metric = module.metric(__name__)
