"""The processor's share is read from the kernel's counters."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench.system import load
from peftbench.system.load import CpuCounters, Load

TICK = os.sysconf("SC_CLK_TCK")


def stat(folder: Path, *ticks: list[int]) -> Path:
    """A /proc/stat with a line of each core."""
    lines = [f"cpu{number} {' '.join(map(str, core))}" for number, core in enumerate(ticks)]
    (folder / "stat").write_text("\n".join(["cpu 1 2 3 4", *lines, "intr 5 6", "ctxt 7"]))
    return folder


def test_work_of_the_cores_that_may_be_used_counts(tmp_path: Path) -> None:
    # user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice
    first = [100, 20, 30, 9000, 900, 4, 5, 6, 50, 7]
    stat(tmp_path, first, [10**6] * 10, [TICK, *[0] * 9])
    assert load._busy(tmp_path, {0, 2}) == (165 + TICK) / TICK
    assert load._busy(tmp_path, {0}) == 165 / TICK


@pytest.mark.parametrize("text", [None, "", "cpu0 a b", "cpu0 1 2", "cpu0 0 0 0 0 0 0 0 0 0 0"])
def test_without_counters_nothing_is_known(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text)
    assert load._busy(tmp_path, {0}) is None
    seen = load.counters(tmp_path)
    assert seen.busy_s is None
    assert seen.own_s > 0
    left = seen.until(CpuCounters(seen.wall_s + 2, seen.own_s + 1, 5.0, 1))
    assert (left.own_fraction(1), left.others_fraction(), left.cores_fraction(1)) == (0.5, None, None)


@pytest.mark.parametrize(
    ("own_s", "busy_s", "cores", "threads", "others", "had"),
    [
        (20, 20, 2, 2, 0, 1),  # Alone.
        (7, 20, 2, 2, 0.65, 0.35),  # "had 35 % of its cores".
        (10, 50, 8, 1, 0.5, 1),  # Others work on cores that it doesn't need.
        (5, 75, 8, 2, 0.875, 0.5),
        (10, 20, 2, 16, 0.5, 0.5),  # More threads than there are cores.
        (10.02, 10, 2, 2, 0, 1),  # The kernel's ticks lag behind.
    ],
)
def test_what_others_take_of_the_cores_that_are_needed(
    own_s: float, busy_s: float, cores: int, threads: int, others: float, had: float
) -> None:
    seen = Load(5, own_s / 2, busy_s / 2, cores) + Load(5, own_s / 2, busy_s / 2, cores)
    assert seen.own_fraction(threads) == pytest.approx(own_s / 10 / threads)
    assert seen.others_fraction() == pytest.approx(others)
    assert seen.cores_fraction(threads) == pytest.approx(had)


def test_of_no_time_nothing_is_known() -> None:
    assert (Load().own_fraction(1), Load().others_fraction(), Load().cores_fraction(1)) == (None, None, None)
    assert Load(0.01, 0.01, 0.02, 1).cores_fraction(1) is None, "a tick is as long"
    assert (Load(1, 1, 1, 2) + Load(1, 1, None, 2)).busy_s is None


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_what_processes_below_use_is_its_own() -> None:
    """One that lives, with one below it, and then all that have ended."""
    work = "import time, os\nwhile time.process_time() < {}: pass\n"
    inner = f"import subprocess, sys\n{work.format(0.2)}subprocess.run([sys.executable, '-c', {work.format(0.3)!r}])\n"
    before, here = load.counters(), time.process_time()
    process = subprocess.Popen([sys.executable, "-c", inner + "print(flush=True)\ninput()"], stdin=-1, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    lives = load.counters().own_s - before.own_s
    process.communicate(b"\n")
    ended = load.counters().own_s - before.own_s
    here = time.process_time() - here
    assert lives >= 0.45
    assert 0.45 <= ended <= here + 10
    assert ended >= lives - 0.05
