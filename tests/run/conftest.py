"""Runs that are asked what was forgotten."""

from tests.helpers.asked import asked_root, composed  # noqa: F401
