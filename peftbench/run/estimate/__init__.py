"""Memory of training by part: the same tracker on a model without weights (an estimate) and on a run's own steps."""
