"""How much of the processor this process had, and how much others took: from the kernel's counters."""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
#: Columns of a processor's line in /proc/stat that count work: user, nice, system, irq, softirq, and steal, which is
#: what another guest of the same machine had. Idle and iowait are the rest; guest is in user already.
_WORK = (0, 1, 2, 5, 6, 7)


#: Seconds from which on the kernel's counters, which tick in hundredths of a second, tell shares.
_SHORTEST_S = 0.25


@dataclass(frozen=True)
class Load:
    """Seconds of processor time within some seconds of wall time.

    Attributes:
        wall_s: the seconds.
        own_s: what this process used, and those that it started (a loader's workers).
        busy_s: what all processes of the machine used on the cores that this one may use; None: not to be had.
        cores: the cores that this process may use.
    """

    wall_s: float = 0.0
    own_s: float = 0.0
    busy_s: float | None = 0.0
    cores: int = 1

    def __add__(self, other: "Load") -> "Load":
        measured = self.busy_s is not None and other.busy_s is not None
        busy = self.busy_s + other.busy_s if measured else None  # type: ignore[operator]
        return Load(self.wall_s + other.wall_s, self.own_s + other.own_s, busy, max(self.cores, other.cores))

    def own_fraction(self, threads: int) -> float | None:
        """The share of what so many threads could use that this process used; None of no time."""
        return self.own_s / (self.wall_s * threads) if self.wall_s else None

    def others_fraction(self) -> float | None:
        """The share of the processor that other processes took, from 0 to 1; None where it can't be had."""
        if self.busy_s is None or self.wall_s < _SHORTEST_S:
            return None
        return min(1.0, max(0.0, self.busy_s - self.own_s) / (self.wall_s * self.cores))

    def cores_fraction(self, threads: int) -> float | None:
        """The share of the cores that so many threads need which others left to them, from 0 to 1; None where it can't
        be had. What others do on cores that these threads don't need takes nothing from them."""
        others = self.others_fraction()
        if others is None:
            return None
        return min(1.0, (1 - others) * self.cores / min(threads, self.cores))


@dataclass(frozen=True)
class CpuCounters:
    """The counters at a moment, in seconds; `busy_s` None: the kernel has none."""

    wall_s: float
    own_s: float
    busy_s: float | None
    cores: int

    def until(self, later: "CpuCounters") -> Load:
        """The load between this moment and a later one."""
        busy = None if self.busy_s is None or later.busy_s is None else later.busy_s - self.busy_s
        # A worker that died unnoticed took its counter with it.
        return Load(later.wall_s - self.wall_s, max(0.0, later.own_s - self.own_s), busy, later.cores)


def counters(proc: Path = _PROC) -> CpuCounters:
    """The counters of this moment. A tenth of a millisecond."""
    cores = usable_cores()
    return CpuCounters(time.perf_counter(), _own(proc), _busy(proc, cores), len(cores))


def usable_cores() -> set[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _busy(proc: Path, cores: set[int]) -> float | None:
    """Seconds of work since the machine started, of some cores; None where there is no such file, or all is 0."""
    try:
        lines = (proc / "stat").read_text().splitlines()
        ticks = [
            sum(int(fields[1 + column]) for column in _WORK)
            for fields in map(str.split, lines)
            if fields and fields[0].removeprefix("cpu").isdigit() and int(fields[0][3:]) in cores
        ]
    except (OSError, ValueError, IndexError):
        return None
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if any(ticks) else None


def _own(proc: Path) -> float:
    """Seconds of work of this process, of those that it started, and of those that have ended."""
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + sum(_below(proc, os.getpid()))


def _below(proc: Path, pid: int) -> Iterator[float]:
    """Yields the seconds of work of each process that one started, and that those started."""
    with contextlib.suppress(OSError, ValueError, IndexError):  # It has ended in the meantime, or isn't Linux.
        for children in (proc / str(pid) / "task").glob("*/children"):
            for child in children.read_text().split():
                fields = (proc / child / "stat").read_text().rpartition(")")[2].split()
                # utime, stime, and what those had that it waited for.
                yield sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
                yield from _below(proc, int(child))
