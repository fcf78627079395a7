"""What is kept of runs: records and their keys, the store, what runs now, reports.

May import `config` and `system`: `report` and `status` must start at once.
"""
