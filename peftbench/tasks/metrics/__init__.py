"""What answers are scored by: functions over labels, numbers and texts, found by name in `registry.py`.

A module named as a metric (`f1.py`) makes it one of `evaluate`'s. May use `data` and below, and no deep learning.
"""
