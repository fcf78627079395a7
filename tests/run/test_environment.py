"""How a run's process is set up by its hardware."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from peftbench.errors import ConfigError
from peftbench.run import environment
from peftbench.run.prepared import PreparedRun
from peftbench.sweep import estimates
from peftbench.sweep.cells import plan as plan_cells


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")


def test_products_are_rounded_only_where_the_hardware_says_so(cell: Callable[..., PreparedRun]) -> None:
    plain, rounded = cell(), cell("hardware.matmul_precision=high")
    environment.set_up(rounded.config.hardware)
    assert torch.get_float32_matmul_precision() == "high"
    environment.set_up(plain.config.hardware)
    assert torch.get_float32_matmul_precision() == "highest"
    assert plain.config.hardware.matmul_precision is None
    assert plain.key != rounded.key


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"hardware.matmul_precision=tf32: allowed .* highest.* high.* medium"):
        plan_cells(["model=tiny_bert", "hardware.matmul_precision=tf32"], multirun=False)


def test_records_that_did_not_know_of_the_key_are_of_the_like(cell: Callable[..., PreparedRun], results: Path) -> None:
    config = cell().config
    now = {"hardware": {"accelerator": "cpu", "matmul_precision": None}}
    names = {part: {"name": getattr(config, part).name} for part in ("method", "model", "dataset")}
    before = {"hardware": {"accelerator": "cpu"}}
    assert estimates._likeness({**names, **now}, {}) == estimates._likeness({**names, **before}, {})
