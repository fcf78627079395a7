"""How OpenMP's threads wait in a run's process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.config import paths
from peftbench.run import environment
from peftbench.system import spinning


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing is said of it in the environment."""
    for name in spinning._VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_threads_sleep_soon_unless_the_user_said_how_they_wait(silent: pytest.MonkeyPatch) -> None:
    silent.setattr(os, "environ", {})
    spinning.shorten()
    assert environment.describe()["openmp"] == os.environ == {"GOMP_SPINCOUNT": "1000"}


@pytest.mark.parametrize("name", spinning._VARIABLES)
def test_what_the_user_said_stays(silent: pytest.MonkeyPatch, name: str) -> None:
    silent.setattr(os, "environ", {name: "7"})
    spinning.shorten()
    assert environment.describe()["openmp"] == os.environ == {name: "7"}


@pytest.mark.parametrize(("said", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "123456"}, "123456")])
def test_the_library_is_told_before_it_is_loaded(silent, said: dict[str, str], spins: str) -> None:
    told = {**os.environ, **said, "OMP_DISPLAY_ENV": "VERBOSE", "PYTHONPATH": str(paths.PACKAGE.parent)}
    # The library says so on the standard error that `preload` would send nowhere.
    line = [sys.executable, "-c", "import os; os.dup2 = lambda *_: None; import peftbench.run.preload"]
    displayed = subprocess.run(line, env=told, capture_output=True, text=True, check=True).stderr
    counts = {line.split("=")[1].strip() for line in displayed.splitlines() if "GOMP_SPINCOUNT" in line}
    if not counts:
        pytest.skip("this torch comes with another OpenMP than GCC's")
    assert counts == {f"'{spins}'"}


def test_a_run_says_how_its_threads_waited(silent, run_cli, tiny, results: Path) -> None:
    from peftbench.results.store import ResultStore

    assert run_cli(*tiny("recipe.max_steps=2", "measure=false"))[0] == 0
    ((_, record),) = ResultStore(results).scan()
    assert record.environment["openmp"] == {"GOMP_SPINCOUNT": "1000"}
    assert "GOMP_SPINCOUNT" not in os.environ, "it's for our own processes alone"
