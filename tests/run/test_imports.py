"""The plan waits for what it needs alone; what is put off is the real thing once it is used."""

import subprocess
import sys

import pytest

from peftbench.run import compiler

CHANGED = (
    f"torch, transformers, Lightning or bitsandbytes ask more of torch's compiler than with {compiler.WRITTEN_FOR}; "
)
CHANGED += "see run/compiler.py and run/imports.py"

_FIRST = """
import sys, threading
from peftbench.run import imports
imports.first()
from peftbench.run import compiler
"""


def fresh(code: str) -> str:
    """What code prints in a process of its own, after the first part of the imports."""
    done = subprocess.run([sys.executable, "-c", _FIRST + code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{CHANGED}\n{done.stderr[-3000:]}"
    return done.stdout.strip()


@pytest.mark.slow
def test_the_plan_waits_for_nothing_that_only_training_needs() -> None:
    code = """
import torch
torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
put_off = ("torch._inductor", "torchmetrics.functional", "scipy.stats", "scipy.signal", "sklearn", "pandas", "datasets")
print([name for name in (compiler.NAME, *put_off) if name in sys.modules], threading.active_count())
imports.later()
print(compiler.NAME in sys.modules, "sklearn.metrics" in sys.modules, threading.active_count())
"""
    assert fresh(code).splitlines() == ["[] 1", "True True 1"], CHANGED


@pytest.mark.slow
def test_what_was_put_off_is_the_real_thing_once_it_is_used() -> None:
    code = """
import lightning.fabric.wrappers, torch
calls = []
late = compiler.disable(lambda x: calls.append(torch.compiler.is_compiling()) or x + 1)
linear = torch.nn.Linear(2, 2)
assert late(1) == 2 and compiler.NAME not in sys.modules
assert not isinstance(linear, lightning.fabric.wrappers.OptimizedModule)
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.SGD([weight], lr=0.5)
weight.grad = torch.ones(1)
optimizer.step()
assert weight.item() == 0.5
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
compiled = torch.compile(linear, backend="eager")
assert isinstance(compiled, lightning.fabric.wrappers.OptimizedModule)
assert torch.compile(late, backend="eager")(torch.ones(1)).item() == 2 and calls == [False, False]
import torchmetrics, scipy.optimize
assert torchmetrics.Metric is torchmetrics.metric.Metric and torchmetrics.MeanMetric
assert scipy.optimize.minimize_scalar(lambda x: (x - 2) ** 2).x > 1.9
import bitsandbytes
print("real")
"""
    if "bitsandbytes" not in sys.modules:
        pytest.importorskip("bitsandbytes")
    assert fresh(code) == "real"
