"""What the kernel kills for want of memory goes on with smaller batches: in a control group that may hold little."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peftbench.config import paths
from peftbench.results.store import ResultStore
from tests.helpers.runs import ASSETS, TINY, TROUBLE

#: Bytes that the command line and all its processes may have: enough for one run on little.
_LIMIT = 2 * 1024**3
_ROOT = Path("/sys/fs/cgroup")
#: Where groups that limit memory are made, the file that takes the limit, and what keeps them from the swap where it is
#: there: version 2 and version 1.
_PLACES = (
    (_ROOT, "memory.max", ("memory.swap.max", 0)),
    (_ROOT / "memory", "memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", _LIMIT)),
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that may hold `_LIMIT` bytes. Only root, or who was given a group, can make one, and a
    container's /sys/fs/cgroup is often read-only: the kernel can't be brought to kill then."""
    for place, limit, (swap, swapped) in _PLACES:
        folder = place / f"peftbench-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            try:
                (folder / limit).write_text(str(_LIMIT))
                if (folder / swap).exists():
                    (folder / swap).write_text(str(swapped))
                (folder / "cgroup.procs").read_text()
                yield folder
                return
            finally:
                _remove(folder)
    pytest.skip("no control group that limits memory can be made here (needs root and a writable /sys/fs/cgroup)")


def _remove(folder: Path) -> None:
    for _ in range(100):  # The kernel lets the last processes go in its own time.
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_a_run_that_the_kernel_kills_goes_on_in_smaller_batches(group: Path, tmp_path: Path, data_root: Path) -> None:
    line = [TROUBLE, *TINY, f"data_root={data_root}", "method=gluttonous"]
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *line, "recipe.max_steps=8"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.PACKAGE.parent), str(ASSETS)])},
        preexec_fn=lambda: (group / "cgroup.procs").write_text("0"),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "out of memory with micro batches of 8" in done.stdout
    (record,) = [record for _, record in ResultStore(tmp_path / "results").scan()]
    assert record.status == "completed"
    assert (record.efficiency["micro_batch_size"], record.efficiency["oom_halvings"]) == (2, 2)
