"""What is kept of runs: records and their keys, the store, what runs now, reports.

May import `config` and `system`. Free of torch, so that `report` and `status` start at once.
"""
