"""The machine and this installation: processor, sockets' folder, extras, warnings, encodings."""

import os
import platform
import sys
import tempfile
import warnings
from multiprocessing import util
from pathlib import Path

from peftbench.errors import ConfigError

#: Bytes that a socket's path may have (Linux 108, macOS 104, the last is 0), and of those what multiprocessing adds to
#: the folder: /pymp-12345678/listener-12345678.
_SOCKET_PATH, _SOCKET_NAME = 103, 32
#: Where temporary files may lie on any machine of ours, the likeliest first.
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


def processor() -> str | None:
    """The processor's name, as records have it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else None


def make_socket_folder() -> None:
    """Make the folder of multiprocessing's sockets, for this process and those that it starts: in the folder for
    temporary files or, where its path is too long for a socket, in another.

    Raises:
        ConfigError: there is none.
    """
    tmpdir = os.environ.get("TMPDIR")
    try:
        usual = tempfile.gettempdir()
    except FileNotFoundError:
        raise ConfigError(
            f"TMPDIR={tmpdir or ''}: no folder for temporary files can be written, nor can /tmp"
        ) from None
    before, most = tempfile.tempdir, _SOCKET_PATH - _SOCKET_NAME
    for folder in (usual, *_SHORT_FOLDERS):
        if len(os.fsencode(folder)) > most:
            continue
        tempfile.tempdir = folder
        try:
            # Not documented, and the only handle on where multiprocessing's sockets lie: it makes the folder at its
            # first call, remembers it, and deletes it in the end.
            util.get_temp_dir()
            return
        except OSError:
            continue
        finally:
            tempfile.tempdir = before
    raise ConfigError(
        f"TMPDIR={tmpdir or usual}: its path has {len(os.fsencode(usual))} bytes, which is too long for a socket's, "
        f"and none of {', '.join(_SHORT_FOLDERS)} can be written: allowed are at most {most}"
    )


def extras() -> set[str]:
    """The optional parts that this installation's metadata names; none where it isn't installed."""
    from importlib import metadata  # Takes longer than a short command: only where it is asked.

    try:
        names = metadata.metadata("peftbench").get_all("Provides-Extra") or []
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
    options = [option.strip() for option in os.environ.get("PYTHONWARNINGS", "").split(",")]
    os.environ["PYTHONWARNINGS"] = ",".join(option for option in options if option not in strict)
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
