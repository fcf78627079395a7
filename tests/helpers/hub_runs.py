"""Fixtures for runs on made-up data in the hub's layout, for the tests of tasks and of data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.results.store import ResultStore
from peftbench.run.context import RunContext
from peftbench.run.prepared import prepare
from peftbench.run.run import run
from tests.helpers import hub_sets
from tests.helpers.composed import composed, written

#: A data set of every task type: the types are enumerated, and each must have one.
ONE_EACH = {file["task"]: name for name, file in sorted(written("dataset").items(), reverse=True) if file.get("suite")}
TINY = ["recipe.epochs=2", "recipe.batch_size=8", "recipe.max_length=120"]


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub")
    hub_sets.write_all(root)
    return root


@pytest.fixture
def made(hub_root: Path, results: Path) -> Callable[..., Any]:
    return lambda *more: prepare(
        composed(["model=tiny_bert", *TINY, f"data_root={hub_root}", f"results_dir={results}", *more])
    )


@pytest.fixture
def recorded(made: Callable[..., Any], results: Path) -> Callable[..., Any]:
    """A run in this process, on made-up data in the hub's layout: its record and where its files are."""

    def go(*more: str) -> tuple[Any, Any]:
        found = made(*more)
        places = ResultStore(results).places(found.config, found.key)
        record = run(RunContext(found, places, [], lambda event: None))
        return record, places

    return go
