"""The ground floor: processes, ranks, files, hashes, the hub's reachability, secrets. Knows nothing of fine-tuning.

May import the standard library; torch in `ranks.py` alone. Everything else may import it.
"""
