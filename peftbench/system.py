"""The machine, without torch."""

import platform
from importlib import metadata
from pathlib import Path


def processor() -> str | None:
    """The processor's name, as records have it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def extras() -> set[str]:
    """The optional parts that this installation's metadata names; none where it isn't installed."""
    try:
        names = metadata.metadata(__package__).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return set()
    return {name.replace("-", "_") for name in names}
