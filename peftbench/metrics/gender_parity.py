"""`evaluate.load`-able module of `functions.gender_parity`."""

from peftbench.metrics import module

Metric = module.metric(__name__)
