"""What the tests share: a small hub-like data folder, a results folder, and a way to run the command line.

Nothing here needs a network; tests that want real data read PEFTBENCH_DATA_ROOT and are skipped without it.
"""

import contextlib
import dataclasses
import os
import subprocess
import sys

# Before any library reads them: without the hub a call takes 23 to 46 s.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # Several processes share the cores.
os.environ.setdefault("WANDB_MODE", "disabled")

import signal  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from peftbench import cli
from peftbench.config import paths
from peftbench.errors import NotApplicable  # noqa: E402
from peftbench.results import store  # noqa: E402
from peftbench.results.records import RunRecord  # noqa: E402
from peftbench.run.prepared import (
    PreparedRun,
    prepare,  # noqa: E402
)
from tests.helpers.composed import composed, written  # noqa: E402
from tests.helpers.runs import ASSETS, TINY, TROUBLE, sentences, write_split  # noqa: E402

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # As in a script's background; what tests start and interrupt would ignore it as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the hub's GLUE, with small made-up sets."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 80), ("validation", 40)):
        write_split(root / "glue" / "sst2", split, sentences(count, seed=count))
        pair = sentences(count, seed=count + 1)
        columns = {"sentence1": pair["sentence"], "sentence2": pair["sentence"][::-1], "label": pair["label"]}
        write_split(root / "glue" / "mrpc", split, columns)
    return root


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def tiny(data_root: Path, results: Path) -> Callable[..., list[str]]:
    """The arguments of a tiny run, with more overrides behind."""

    def arguments(*more: str) -> list[str]:
        return [*TINY, f"data_root={data_root}", f"results_dir={results}", *more]

    return arguments


@pytest.fixture
def cell(tiny: Callable[..., list[str]]) -> Callable[..., PreparedRun]:
    """A composed run whose inputs were found."""
    return lambda *more: prepare(composed(tiny(*more)))


@pytest.fixture
def at(cell: Callable[..., PreparedRun], tmp_path: Path) -> Callable[..., PreparedRun]:
    """A run of six steps in a folder of its own: an epoch is four batches, of which the last is smaller; evaluated
    every two steps."""
    short = ["recipe.max_steps=6", "recipe.epochs=9", "recipe.eval_steps=2", "recipe.train_samples=30"]

    def make(folder: str, *overrides: str) -> PreparedRun:
        prepared = cell(*short, *overrides)
        return dataclasses.replace(
            prepared, config=dataclasses.replace(prepared.config, results_dir=str(tmp_path / folder))
        )

    return make


@pytest.fixture
def fitting(at: Callable[..., PreparedRun], named: Callable[[str, str], list[str]]) -> Callable[..., list[str]]:
    """The overrides of a run of a method on the first model that it can be applied to; NotApplicable says why there is
    none."""
    from peftbench.run.verify import problem_with

    def find(method: str, *others: str) -> list[str]:
        problems = []
        for model in ("tiny_bert", "tiny_llama", "tiny_t5"):
            overrides = [*named(method, model), *others]
            prepared = at("nowhere", *overrides)
            problems.append(problem_with(prepared.config, prepared.checkpoint))
            if problems[-1] is None:
                return overrides
        raise NotApplicable(str(problems))

    return find


@pytest.fixture
def named(cell: Callable[..., PreparedRun], tmp_path: Path) -> Callable[[str, str], list[str]]:
    """The overrides that name a method and a model, with a checkpoint, or an adapter, for all that it reads besides."""
    from hydra.utils import get_class

    from peftbench.methods.fusion import AdapterFusion
    from tests.helpers.built import adapter, checkpoint

    def overrides(method: str, model: str) -> list[str]:
        file = written("method")[method]
        wanted = [name for name, path in file.get("inputs", {}).items() if path is None]
        folders = {name: tmp_path / "inputs" / model / name for name in wanted}
        for seed, folder in enumerate(folders.values()):
            if folder.exists():
                continue
            if issubclass(get_class(file["_target_"]), AdapterFusion):
                adapter(cell("method=pfeiffer", f"model={model}"), folder, seed=seed)
            else:
                checkpoint(cell("method=full", f"model={model}"), folder)
        return [f"method={method}", f"model={model}", *(f"method.inputs.{n}={path}" for n, path in folders.items())]

    return overrides


@pytest.fixture
def train(cell: Callable[..., PreparedRun]) -> Callable[..., RunRecord]:
    """A run in this process: quick, but without a log and memory of its own."""

    def run_here(*overrides: str) -> RunRecord:
        from peftbench.run.context import RunContext
        from peftbench.run.run import run

        prepared = cell(*overrides)
        places = store.ResultStore(prepared.config.results_dir).places(prepared.config, prepared.key)
        return run(RunContext(prepared, places, [], lambda event: None))

    return run_here


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit status, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = cli.main(list(arguments))
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that the troubled methods look at."""
    monkeypatch.syspath_prepend(str(ASSETS))
    monkeypatch.setenv("TROUBLE", str(tmp_path / "trouble"))
    return tmp_path / "trouble"


@pytest.fixture
def start(tmp_path: Path, data_root: Path) -> Iterator[Callable[..., subprocess.Popen]]:
    """A command line in a process of its own, once its run has begun training."""
    started: list[subprocess.Popen] = []

    def begin(*arguments: str, method: str = "slow") -> subprocess.Popen:
        line = [TROUBLE, *TINY, f"data_root={data_root}", f"method={method}", *arguments]
        path = os.pathsep.join([str(paths.PACKAGE.parent), str(ASSETS)])
        parent = subprocess.Popen(
            [sys.executable, "-m", "peftbench", *line],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "TROUBLE": str(tmp_path / "trouble")},
        )
        started.append(parent)
        return parent

    yield begin
    for parent in started:
        with parent:  # Waits, and closes its pipes, which not every test reads to the end.
            if parent.poll() is None:
                parent.kill()


@pytest.fixture(scope="session")
def real_data() -> str:
    root = os.environ.get("PEFTBENCH_DATA_ROOT")
    if root is None:
        pytest.skip("PEFTBENCH_DATA_ROOT isn't set: no real data")
    return root


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--methods-table", type=Path, help="write what test_methods found into this file")
    parser.addoption("--update-docs", action="store_true", help="write the generated parts of docs/ anew")


def pytest_configure(config: pytest.Config) -> None:
    _keep_captured_streams_open()
    file = config.getoption("--methods-table")
    if file is not None and not hasattr(config, "workerinput"):
        from tests.helpers.methods_table import MethodsTable

        config.pluginmanager.register(MethodsTable(file))


def _keep_captured_streams_open() -> None:
    """Give absl's handler the process's own stderr: whatever configures logging closes the stream that the handler got
    when absl was imported, and that would be pytest's, with which every later test fails."""
    with contextlib.suppress(ImportError):  # rouge_score and tensorboard bring absl.
        from absl import logging as absl_logging

        absl_logging.get_absl_handler().python_handler.stream = sys.__stderr__
