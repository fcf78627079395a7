"""`evaluate.load`-able module of `functions.spearman`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
