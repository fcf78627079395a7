"""The training loop, `tuner.FineTuner`, and its callbacks: optimiser, selection, resuming, time and memory, loggers.

May import `methods` and below, not `run`.
"""
