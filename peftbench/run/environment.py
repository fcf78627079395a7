"""A record's `environment`: what the run ran on. A record may be published, so that there is no host name, no path, and
no environment variable but how OpenMP's threads wait."""

import functools
import os
import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from peftbench import __version__
from peftbench.config import paths
from peftbench.config.types import HardwareConfig
from peftbench.system import ranks, spinning
from peftbench.system.machine import processor

_PACKAGES = ("torch", "lightning", "transformers", "peft", "datasets", "scikit-learn", "numpy")


def set_up(hardware: HardwareConfig) -> None:
    """Set torch's threads and what it may round 32-bit products to, for this process."""
    if hardware.threads is not None:
        torch.set_num_threads(hardware.threads)
    elif ranks.world() > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // ranks.world()))
    torch.set_float32_matmul_precision(hardware.matmul_precision or "highest")


def describe() -> dict[str, Any]:
    """Versions, commit, processor, threads and GPUs of this process."""
    commit, dirty = _commit()
    return {
        "peftbench": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "packages": dict(_versions()),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "openmp": spinning.policy(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def versions() -> dict[str, Any]:
    """The versions in it of everything that computes: a saved state is used by the same versions only."""
    now = describe()
    return {name: now[name] for name in ("peftbench", "git_commit", "packages")}


@functools.cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _PACKAGES}


# Once a process: the code that is loaded is of that commit, whatever is committed meanwhile.
@functools.cache
def _commit() -> tuple[str | None, bool | None]:
    """The checkout's commit and whether it has changes; nulls where the package wasn't run from a checkout."""
    root = paths.PACKAGE.parent
    if not (root / ".git").exists():
        return None, None
    try:
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        )
        changes = subprocess.run(
            # Without results/: a report that is written there changes no code.
            ["git", "-C", root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return head.stdout.strip(), bool(changes.stdout.strip())
