"""What `benchmarks/gpu_check.py` does where there is no GPU, and its parts that need none."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check.py"


@pytest.fixture(scope="module")
def gpu_check() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_device_it_is_said_in_one_line() -> None:
    done = subprocess.run([sys.executable, str(FILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "gpu_check: torch finds no CUDA device here\n"


@pytest.mark.slow
def test_a_decoder_is_timed_beside_a_plain_loop(gpu_check: Any, tmp_path: Path) -> None:
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_key_value_heads": 2}
    said = gpu_check.decoder("cpu", tmp_path, shape)
    assert said.startswith("0.00 billion weights: a run ")
    assert "a plain loop" in said
    assert re.search(r"; a run's peak \d+\.\d\d GB, estimated \d+\.\d\d GB$", said)


@pytest.mark.slow
def test_every_family_takes_a_step_and_a_cpu_waits_for_nothing(gpu_check: Any, tmp_path: Path) -> None:
    assert gpu_check.waits("cpu", tmp_path) == "tiny_bert: 0; tiny_llama verbaliser: 0; tiny_llama text: 0"


def test_the_parts_are_commands_that_compose(gpu_check: Any, tmp_path: Path, composes: Callable[..., Any]) -> None:
    both = list(gpu_check.parts(2, tmp_path))
    assert {part.name for part in both} - {part.name for part in gpu_check.parts(1, tmp_path)} == {
        "two devices, ddp",
        "two devices, fsdp",
    }
    lines = [part.command[3:] for part in both if part.command[1:3] == ["-m", "peftbench"]]
    assert len(lines) >= 4
    for line in lines:
        assert composes(line)


def test_what_fails_or_takes_too_long_has_its_line(gpu_check: Any) -> None:
    def part(code: str) -> Any:
        return gpu_check.Part("x", [sys.executable, "-c", code])

    assert gpu_check.attempt(part("print('well')"), 60)[1].startswith("well (")
    assert gpu_check.attempt(part("import sys; sys.exit('why')"), 60) == (False, "why")
    assert gpu_check.attempt(part("import time; time.sleep(60)"), 0.5) == (False, "not within 0 s")
    assert gpu_check.attempt(part(""), 0) == (False, "no time left")
    assert "| a | no | b/c |" in gpu_check.table([("a", False, "b|c")])


@pytest.fixture
def composes() -> Callable[[list[str]], int]:
    """How many runs a command line means."""
    from peftbench.sweep.cells import plan

    return lambda line: len(plan([word for word in line if word != "-m"], multirun="-m" in line).cells)
