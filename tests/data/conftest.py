"""Runs on made-up data in the hub's layout, and a hub that serves such data."""

from tests.helpers.hub_client import cli, environment, hub, look, served  # noqa: F401
from tests.helpers.hub_runs import hub_root, made, recorded  # noqa: F401
