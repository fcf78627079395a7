"""One run in a process of its own: prepared, trained (`training/`), evaluated, measured, recorded. Start at `run.py`.

May import everything below. Only `prepared.py` is imported from above; the rest is started by name in a fresh process.
"""
