"""The machine, without torch."""

import os
import platform
import sys
import warnings
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


def relax_warnings() -> None:
    """Take `error` out of what PYTHONWARNINGS or -W ask for, here and in processes that are started: which warnings the
    libraries give is no fault of a method."""
    strict = [option for option in sys.warnoptions if option.partition(":")[0].strip() in _STRICT]
    if not strict:
        return
    sys.warnoptions[:] = [option for option in sys.warnoptions if option not in strict]
    given = [option.strip() for option in os.environ.get("PYTHONWARNINGS", "").split(",")]
    os.environ["PYTHONWARNINGS"] = ",".join(option for option in given if option not in strict)
    warnings.simplefilter("default")
    for ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):  # As Python does.
        warnings.simplefilter("ignore", ignored)


#: Python takes abbreviations of it.
_STRICT = ("error", "erro", "err", "er", "e")


def forgive_encoding() -> None:
    """Let standard output and error take every text: what their encoding lacks (`LC_ALL=C`) becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        encoding = str(getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
        if encoding not in ("utf8", "utf16", "utf32") and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
