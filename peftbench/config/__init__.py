"""What a run is configured by: types and rules of its keys, composing them with Hydra, what conf/ holds.

May import `system`, and nothing heavy: the command line starts here. A new key goes into `types.py`, a rule
that looks at several into `loading.py`, a use of Hydra's private API into `hydra_compat.py`.
"""
