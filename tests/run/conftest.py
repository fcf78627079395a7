"""Runs that are asked what was forgotten, and runs on tiny models whose weights are exported."""

from pathlib import Path

import pytest

from tests.helpers.asked import asked_root, composed  # noqa: F401
from tests.helpers.exported import Exporter


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's tiny checkpoints are written, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture
def exporter(models: Path, data_root: Path, tmp_path: Path) -> Exporter:
    return Exporter(models, data_root, tmp_path)
