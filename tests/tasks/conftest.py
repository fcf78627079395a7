"""Runs on made-up data in the hub's layout."""

from tests.helpers.hub_runs import hub_root, made, recorded  # noqa: F401
