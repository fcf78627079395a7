"""`evaluate.load`-able module of `text.bleu`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
